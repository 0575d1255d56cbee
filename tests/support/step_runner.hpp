#pragma once
/// Single training steps over all ranks, the parts within reach.

#include <mpi.h>

#include <vector>

#include "moesaic/train/assembly.hpp"
#include "moesaic/train/training_step.hpp"

namespace moesaic {

/// What a run of `settings` does, step by step; nothing is written. Collective.
class StepRunner {
 public:
  /// With `ops`, which must outlive this, layers call these operators.
  explicit StepRunner(const RunSettings& settings, const Operators* ops = nullptr)
      : settings_(settings), inputs(settings_, session_.size()), assembly(settings_, inputs, session_),
        optimizer(settings_.optimizer, *assembly.context.ops, assembly.context.on, assembly.sharding.units(),
                  assembly.parameter_names(), *assembly.communicators.world),
        with_ops_(inputs.blocks_of(assembly.model, session_.rank()), assembly.sharding, assembly.link,
                  context_with(ops)),
        step_(plan(), ops == nullptr ? assembly.runner : with_ops_, assembly.model, assembly.sharding, optimizer,
              assembly.communicators, phases_) {
    assembly.initialise(settings_, inputs);
  }
  StepRunner(const StepRunner&) = delete;

  /// The next step. `stop`: this rank asks to stop.
  StepResult step(bool stop = false) {
    const std::vector<HostBatch> mine = batches();
    ++finished_;
    return step_.run(finished_, mine, stop);
  }

  /// What is wrong with the next step, which is not taken.
  std::string diagnose() { return step_.diagnose(batches()); }

  /// The next step's global batch, whole.
  HostBatch global_batch() const { return read({0, settings_.global_batch}); }

 private:
  RunSettings settings_;
  MpiSession session_;

 public:
  Inputs inputs;
  Assembly assembly;
  Optimizer optimizer;

 private:
  StepPlan plan() const {
    return {.cut = {settings_.global_batch, settings_.micro_batch, inputs.grid.data_ranks()},
            .length = settings_.data.sequence,
            .steps = settings_.steps,
            .reduce_every_micro_batch = settings_.reduce_every_micro_batch,
            .schedule = settings_.schedule,
            .optimizer = settings_.optimizer,
            .balance = settings_.balance,
            .scope = settings_.auxiliary_scope,
            .auxiliary_coefficient = settings_.auxiliary_coefficient.value_or(0),
            .bias_rate = settings_.bias_rate,
            .prediction_weight = settings_.prediction_weight};
  }
  HostBatch read(Block sequences) const {
    const Sampler sampler(inputs.data.training->rows(), settings_.data.shuffle, settings_.seed);
    return read_batch(*inputs.data.training, sampler, finished_ * settings_.global_batch, sequences,
                      settings_.data.sequence, inputs.spec.predicts ? Lookahead::two_tokens : Lookahead::one_token);
  }
  std::vector<HostBatch> batches() const {
    const BatchCut cut = plan().cut;
    std::vector<HostBatch> mine;
    const int rank = session_.rank();
    for (std::int64_t m = 0; m < cut.micro_batches(); ++m)
      mine.push_back(part_of(read(cut.sequences(inputs.grid.data_rank(rank), m)), inputs.grid.extent(Axis::context),
                             inputs.grid.coordinate(rank, Axis::context)));
    for (HostBatch& batch : mine) batch.divisible = cut.largest_micro_batch() > 1;
    return mine;
  }

  LayerContext context_with(const Operators* ops) const {
    LayerContext context = assembly.context;
    if (ops != nullptr) context.ops = ops;
    return context;
  }

  Phases phases_;
  StageRunner with_ops_;
  TrainingStep step_;
  std::int64_t finished_ = 0;
};

}  // namespace moesaic
