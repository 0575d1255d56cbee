#pragma once
/// One optimizer step, read top to bottom: forward, loss, backward, reduce, clip, update.

#include <optional>

#include "moesaic/models/model.hpp"
#include "moesaic/optim/optimizer.hpp"
#include "moesaic/train/micro_batches.hpp"
#include "moesaic/train/stage_runner.hpp"

namespace moesaic {

/// How one step is taken; the same for all steps of a run.
struct StepPlan {
  BatchCut cut;
  std::int64_t length = 0;               ///< tokens of a sequence
  std::int64_t steps = 0;                ///< the run's last step, for the learning rate
  bool reduce_every_micro_batch = true;  ///< train.reduce
  ScheduleKind schedule = ScheduleKind::one_f_one_b;
  OptimizerSettings optimizer;
  Balance balance = Balance::none;
  BalanceScope scope = BalanceScope::sequence;
  double auxiliary_coefficient = 0;
  double bias_rate = 0;
  double prediction_weight = 0;  ///< of the loss of multi-token prediction, where the model has it
};

/// What overflowed most in a step.
struct StepOverflow : ExpertOverflow {
  int rank = 0;            ///< of the run
  std::int64_t layer = 0;  ///< of the model's MoE layers
  /// Else those layers went in rounds, and the step is as good as any.
  bool discarded() const { return rounds == 0; }
};

struct StepResult {
  double loss = 0;                        ///< mean cross entropy over the counted labels of the global batch
  double auxiliary_loss = 0;              ///< mean over MoE layers, without the coefficient
  std::optional<double> prediction_loss;  ///< mean over its counted labels, without the weight
  double gradient_norm = 0;               ///< before clipping
  double lr = 0;
  double expert_load = 1;                ///< largest over mean load of an expert, the worst MoE layer
  bool stop = false;                     ///< some rank was asked to stop
  bool skipped = false;                  ///< loss or norm is not finite: nothing was updated
  std::optional<StepOverflow> overflow;  ///< receive buffers did; where it is discarded, only `stop` holds beside it
};

/// Wires model, sharding and optimizer together. All members outlive this. Every call is collective.
class TrainingStep {
 public:
  TrainingStep(const StepPlan& plan, StageRunner& runner, Model& model, FullySharded& sharding, Optimizer& optimizer,
               const Communicators& communicators, Phases& phases);

  /// Update number `step` (from 1) on this rank's micro-batches of it. `stop`: this rank was asked to stop; the request
  /// travels with the step's own reduction. Skipped, on all ranks alike, when the loss or the gradient norm is not finite.
  /// Discarded, on all ranks alike, when receive buffers of experts overflowed and the micro-batches are divisible: nothing
  /// was updated, the step is to be taken again with smaller ones.
  StepResult run(std::int64_t step, const std::vector<HostBatch>& batches, bool stop);

  /// Does the step's forward and backward again with operators that check what they compute: a sentence that names the first
  /// one that was not finite, or says that all were. Updates nothing; gradients are lost.
  std::string diagnose(const std::vector<HostBatch>& batches);

 private:
  struct Totals;

  Totals gradients(const std::vector<HostBatch>& batches, bool stop);
  Totals count(const std::vector<HostBatch>& batches);
  void scale(std::vector<MicroBatch>& views, const Totals& totals) const;
  std::vector<ScheduleStep> schedule(std::int64_t micro_batches) const;
  Reduction reduction() const;
  void read_figures(Totals& totals);
  void share(Totals& totals);
  std::optional<StepOverflow> fullest(const std::vector<MoeCounts>& counts) const;
  void update_selection_bias(Totals& totals);

  StepPlan plan_;
  StageRunner* runner_;
  Model* model_;
  FullySharded* sharding_;
  Optimizer* optimizer_;
  const Communicators* communicators_;
  Phases* phases_;
};

}  // namespace moesaic
