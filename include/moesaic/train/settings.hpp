#pragma once
/// What a run is told, as plain data. The option table (app/) fills it; nothing here parses anything.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "moesaic/comm/device_exchange.hpp"
#include "moesaic/data/source.hpp"
#include "moesaic/grid/process_grid.hpp"
#include "moesaic/layers/moe.hpp"
#include "moesaic/layers/recompute.hpp"
#include "moesaic/models/model_spec.hpp"
#include "moesaic/optim/settings.hpp"
#include "moesaic/parallel/context_parallel.hpp"
#include "moesaic/parallel/pipeline_schedule.hpp"

namespace moesaic {

enum class DeviceChoice : std::uint8_t { automatic, cpu, cuda };
enum class Precision : std::uint8_t { automatic, bf16, fp32 };
enum class Resume : std::uint8_t { automatic, never, path };

/// Consecutive steps whose timeline is recorded.
struct ProfileSteps {
  std::int64_t first = 1;
  std::int64_t count = 0;   ///< 0: none
  bool from_start = false;  ///< `first` counts from the first step of the process
};

struct RunSettings {
  // [run]
  std::string name;
  std::string directory;
  std::uint64_t seed = 0;
  DeviceChoice device = DeviceChoice::automatic;
  std::int64_t device_memory = 0;  ///< bytes; 0: what is free
  std::optional<double>
      watchdog;           ///< seconds without progress after which the job ends; not given: what the steps suggest
  double wall_limit = 0;  ///< seconds after which the run stops behind a checkpoint; 0: none
  // [model]
  std::string config;           ///< path of a Hugging Face config.json; empty: init's own
  std::string init = "random";  ///< "random", a Hugging Face folder, or a checkpoint
  ModelOverrides overrides;
  // [grid]
  GridRequest grid;
  ContextExchange context_exchange = ContextExchange::ring;
  ScheduleKind schedule = ScheduleKind::one_f_one_b;
  int chunks = 1;
  std::string layout;  ///< blocks of each virtual stage, "5,4,4,3"; empty: balanced by cost
  // [data]
  DataSettings data;
  std::int64_t validate_every = 0;  ///< steps; 0: after the last only
  // [train]
  std::int64_t steps = 0;
  std::int64_t global_batch = 0;  ///< sequences
  std::int64_t micro_batch = 1;   ///< sequences
  Precision precision = Precision::automatic;
  Recompute recompute = Recompute::none;  ///< train.recompute
  bool deterministic = true;              ///< train.deterministic
  std::int64_t max_skipped = 3;           ///< train.max_skipped: non-finite steps in a row that end the run
  bool reduce_every_micro_batch = true;   ///< train.reduce: after each micro-batch, or once a step
  ProfileSteps profile_steps;             ///< train.profile_steps
  double prediction_weight = 0.3;         ///< train.prediction_weight: of the loss of multi-token prediction
  // [optimizer]
  OptimizerSettings optimizer;
  // [moe]
  Balance balance = Balance::auxiliary;
  BalanceScope auxiliary_scope = BalanceScope::sequence;
  std::optional<double> auxiliary_coefficient;  ///< not given: router_aux_loss_coef of the config
  double bias_rate = 0.001;
  bool balanced_router = false;
  double receive_bound = 2;    ///< moe.receive_bound: receive buffers of experts on a GPU, times the mean load
  bool bound_on_host = false;  ///< the bound holds on the CPU too, where buffers would grow: for tests
  DeviceExchange device_exchange = DeviceExchange::automatic;  ///< another than automatic: for tests
  // [checkpoint]
  std::int64_t checkpoint_every = 0;  ///< steps; 0: the last only
  std::int64_t keep = 2;
  std::int64_t keep_every = 0;  ///< checkpoints of steps that this divides stay for good; 0: none
  bool background = true;       ///< checkpoints are written while training goes on
  Resume resume = Resume::automatic;
  std::string resume_path;
  // [log]
  std::int64_t log_every = 10;

  /// The resolved deck as text, stored in checkpoints.
  std::string deck;
  /// What each key has that a deck leaves out, as text: the values of keys that an older program's deck lacks.
  std::string default_deck;
  std::string version;  ///< of the program, stored in checkpoints
};

}  // namespace moesaic
