#pragma once
/// The loop of a run: resume, step, validate, save, report, end.

#include <chrono>
#include <filesystem>
#include <optional>

#include "moesaic/checkpoint/background_writer.hpp"
#include "moesaic/checkpoint/extra_arrays.hpp"
#include "moesaic/checkpoint/state.hpp"
#include "moesaic/checkpoint/store.hpp"
#include "moesaic/train/assembly.hpp"
#include "moesaic/train/events.hpp"
#include "moesaic/train/metrics.hpp"
#include "moesaic/train/report.hpp"
#include "moesaic/train/run.hpp"
#include "moesaic/train/step_profile.hpp"
#include "moesaic/train/stop_conditions.hpp"
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
  void take_extras_of_folder();
  Status complete_already() const;
  void open_desk();
  void prepare_profile();
  void greet() const;
  void take_step();
  StepResult step_within_bound(std::vector<HostBatch>& batches);
  void report_overflow(const StepOverflow& overflow, const BatchCut& cut);
  void count_skipped(const StepResult& result, const std::vector<HostBatch>& batches);
  std::vector<HostBatch> read_batches(const BatchCut& cut) const;
  StepMetrics metrics_of(const StepResult& result, double seconds);
  bool wants_to_stop();
  bool last_step() const { return finished_ == settings_.steps; }
  bool validation_due() const;
  bool checkpoint_due() const;
  void validate();
  void save();
  void report_saves();
  CheckpointInfo checkpoint_info() const;
  Status finish();
  void record_failure(const std::string& why);
  std::vector<StateArray> state();

  const RunSettings& settings_;
  const Inputs& inputs_;
  Watchdog& watchdog_;
  StopConditions stop_conditions_;
  StopReason stop_reason_ = StopReason::none;   ///< of this rank
  double slowest_step_ = 0, slowest_save_ = 0;  ///< seconds
  std::optional<StepProfile> profile_;          ///< where train.profile_steps names steps
  Phases phases_;
  Assembly assembly_;
  Communicator& world_;
  Optimizer optimizer_;
  StepPlan plan_;
  TrainingStep step_;
  Sampler sampler_;
  CheckpointStore store_;
  ExtraArrays extra_;                          ///< of the checkpoint or folder that the run began with
  CheckpointWriter writer_;                    ///< after what it copies from
  std::string unsaved_;                        ///< why the last save made no checkpoint; empty: it did
  std::optional<SaveMetrics> completed_save_;  ///< for the metrics of the next step
  std::optional<Desk> desk_;                   ///< on rank 0
  StepMetrics last_;
  std::int64_t finished_ = 0, tokens_ = 0, samples_ = 0;
  std::int64_t skipped_ = 0;  ///< in a row
  bool stop_ = false;
};

}  // namespace moesaic
