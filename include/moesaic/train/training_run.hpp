#pragma once
/// The loop of a run: resume, step, validate, save, report, end.

#include <chrono>
#include <filesystem>
#include <optional>

#include "moesaic/checkpoint/state.hpp"
#include "moesaic/checkpoint/store.hpp"
#include "moesaic/train/assembly.hpp"
#include "moesaic/train/events.hpp"
#include "moesaic/train/metrics.hpp"
#include "moesaic/train/report.hpp"
#include "moesaic/train/run.hpp"
#include "moesaic/train/stop_request.hpp"
#include "moesaic/train/training_step.hpp"
#include "moesaic/train/watchdog.hpp"

namespace moesaic {

/// One training run on this rank; every method is collective. `settings`, `inputs` and `session` outlive it.
class TrainingRun {
 public:
  TrainingRun(const RunSettings& settings, const Inputs& inputs, const MpiSession& session, Watchdog& watchdog);

  /// Trains to the last step, or to a request to stop.
  Status run();

 private:
  /// What rank 0 alone keeps: files and the screen.
  struct Desk {
    Desk(const RunSettings& settings, const ReportFrame& frame);
    RunRecord record;
    MetricsFile metrics;
    Report report;
  };

  void start();
  Status complete_already() const;
  void open_desk();
  void greet() const;
  void take_step();
  std::vector<HostBatch> read_batches() const;
  StepMetrics metrics_of(const StepResult& result, double seconds);
  bool wants_to_stop() const;
  bool out_of_time() const;
  bool last_step() const { return finished_ == settings_.steps; }
  bool validation_due() const;
  bool checkpoint_due() const;
  void validate();
  void save();
  Status finish();
  void record_failure(const std::string& why);
  std::vector<StateArray> state();

  const RunSettings& settings_;
  const Inputs& inputs_;
  Watchdog& watchdog_;
  StopRequest stop_request_;
  Phases phases_;
  Assembly assembly_;
  Communicator& world_;
  Optimizer optimizer_;
  TrainingStep step_;
  Sampler sampler_;
  CheckpointStore store_;
  std::optional<Desk> desk_;  ///< on rank 0
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  StepMetrics last_;
  std::int64_t finished_ = 0, tokens_ = 0, samples_ = 0;
  bool stop_ = false;
};

}  // namespace moesaic
