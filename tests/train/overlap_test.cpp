/// The training step exchanges while it computes: shown by the recorded order of a step on rank 0 of four mirrored
/// ranks, with no stopwatch. That waiting at once would be seen: tests/parallel/overlap_test.cpp.
#include <gtest/gtest.h>

#include "moesaic/parallel/initialise.hpp"
#include "moesaic/train/training_step.hpp"
#include "support/overlap_trace.hpp"

namespace moesaic {
namespace {

constexpr int ranks = 4;

Recording* recording_of_operators = nullptr;

/// An operator that stands for the whole block it belongs to.
template <auto member> const char* reported_name = "";
template <auto member, class... Arguments> auto reporting(void (*)(Arguments...), const char* name) {
  reported_name<member> = name;
  return +[](Arguments... arguments) {
    recording_of_operators->compute(reported_name<member>);
    (operators(DeviceKind::cpu).*member)(arguments...);
  };
}

/// The operators of the host; one a block and direction reports.
Operators reporting_operators() {
  Operators ops = operators(DeviceKind::cpu);
  ops.embedding_forward = reporting<&Operators::embedding_forward>(ops.embedding_forward, "embedding forward");
  ops.embedding_backward = reporting<&Operators::embedding_backward>(ops.embedding_backward, "embedding backward");
  ops.attention_forward = reporting<&Operators::attention_forward>(ops.attention_forward, "block forward");
  ops.attention_backward = reporting<&Operators::attention_backward>(ops.attention_backward, "block backward");
  ops.cross_entropy_forward = reporting<&Operators::cross_entropy_forward>(ops.cross_entropy_forward, "head forward");
  ops.cross_entropy_backward =
      reporting<&Operators::cross_entropy_backward>(ops.cross_entropy_backward, "head backward");
  return ops;
}

/// A dense block and a sparse one.
ModelSpec small_model() {
  ModelSpec spec;
  spec.hidden = 16;
  spec.vocabulary = 24;
  spec.blocks.resize(2);
  for (BlockSpec& block : spec.blocks) block.attention = {.hidden = 16, .heads = 2, .key_heads = 1, .width = 8};
  spec.blocks[0].dense_width = 32;
  spec.blocks[1].moe = {.hidden = 16, .width = 8, .experts = 4, .top_k = 2};
  return spec;
}

HostBatch small_batch() {
  HostBatch batch;
  batch.sequences = 2;
  batch.length = 8;
  batch.counted = 16;
  for (std::int32_t t = 0; t < 16; ++t) {
    batch.ids.push_back(t);
    batch.labels.push_back(t + 1);
    batch.positions.push_back(t % 8);
  }
  return batch;
}

class StepOverlap : public ::testing::Test {
 protected:
  StepOverlap() {
    recording_of_operators = &recording;
    for (const auto& unit : sharding.units()) initialise_random(*unit, 1, 0.02);
  }

  void run(const std::vector<HostBatch>& batches, bool reduce_every_micro_batch = true) {
    std::vector<std::string> names;
    for (const UnitSpec& unit : model.units())
      for (const ParameterSpec& parameter : unit.parameters) names.push_back(parameter.name);
    StepPlan plan;
    plan.length = 8;
    plan.steps = 1;
    plan.reduce_every_micro_batch = reduce_every_micro_batch;
    Optimizer optimizer(plan.optimizer, ops, context.on, sharding.units(), names, *communicators.world);
    Phases phases;
    TrainingStep(plan, runner, model, sharding, optimizer, communicators, phases).run(1, batches, false);
  }
  StageBlocks all_here() const {
    StageBlocks stage;
    for (const auto& block : model.blocks()) stage.blocks.push_back(block.get());
    stage.chunks = {{0, std::ssize(stage.blocks)}};
    return stage;
  }
  Trace trace() const { return trace_of(recording, sharding, ranks); }

  Recording recording;
  Operators ops = reporting_operators();
  Arena arena{host_memory()};
  LayerContext context{&ops, {host_stream, &arena}, DType::f32};
  Communicators communicators = mirrored_communicators(ranks, recording);
  LocalSequences sequences;
  LocalExperts experts;
  Model model{small_model(), 8, sequences, experts, nullptr, context};
  FullySharded sharding{model.blocks(), context, ProcessGrid::make({.shard = ranks}, ranks), 0, communicators};
  PipelineLink link{{}, context, *communicators.pipeline_down, *communicators.pipeline_up, small_model().hidden};
  StageRunner runner{all_here(), sharding, link, context};
};

TEST_F(StepOverlap, GathersRunOneBlockAheadAndReductionsOneBehind) {
  run({small_batch()});
  const Trace expected{"all_reduce",  // the counts of labels and tokens
                       // forward
                       "gather embedding", "gather blocks/0", "gathered embedding", "embedding forward",    //
                       "gather blocks/1", "gather blocks/1/experts", "gathered blocks/0", "block forward",  //
                       "gather head", "gathered blocks/1", "gathered blocks/1/experts", "block forward",    //
                       "gather blocks/1", "gather blocks/1/experts", "gathered head", "head forward",       //
                       // backward
                       "head backward", "reduce head",                                                         //
                       "gather blocks/0", "gathered blocks/1", "gathered blocks/1/experts", "block backward",  //
                       "reduce blocks/1", "reduce blocks/1/experts", "reduced head",                           //
                       "gathered blocks/0", "block backward",                                                  //
                       "reduce blocks/0", "reduced blocks/1", "reduced blocks/1/experts",                      //
                       "embedding backward", "reduce embedding", "reduced blocks/0", "reduced embedding",      //
                       "all_reduce", "all_reduce", "all_reduce"};  // losses, loads of the experts, gradient norm
  EXPECT_EQ(trace(), expected);
}

TEST_F(StepOverlap, AStepIsShorterThanTheSumOfItsParts) {
  // Eight computations of 10, and 17 exchanges of 4: eight gathers, five reductions, four sums over all ranks. Those
  // four, the first gather and the last reduction show; all others hide behind a computation.
  run({small_batch()});
  const SimulatedTimes times = simulate(recording, {.compute = 10, .latency = 4});
  EXPECT_EQ(times.sum, 8 * 10 + 17 * 4);
  EXPECT_EQ(times.elapsed, 8 * 10 + 6 * 4);
}

TEST_F(StepOverlap, OneReductionAStepWhenAsked) {
  run({small_batch(), small_batch(), small_batch()}, false);
  const Trace once = trace();
  EXPECT_EQ(std::count(once.begin(), once.end(), "head backward"), 3);
  for (const auto& unit : sharding.units())
    EXPECT_EQ(std::count(once.begin(), once.end(), "reduce " + unit->spec().name), 1) << unit->spec().name;
}

TEST_F(StepOverlap, EveryMicroBatchIsReduced) {
  run({small_batch(), small_batch(), small_batch()});
  const Trace each = trace();
  for (const auto& unit : sharding.units())
    EXPECT_EQ(std::count(each.begin(), each.end(), "reduce " + unit->spec().name), 3) << unit->spec().name;
}

}  // namespace
}  // namespace moesaic
