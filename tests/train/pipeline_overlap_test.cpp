/// Pipeline sends start early and complete late: shown by the order of what the middle one of three stages does, with no
/// stopwatch.
#include <gtest/gtest.h>

#include "moesaic/kernels/silent_operators.hpp"
#include "moesaic/models/model.hpp"
#include "moesaic/train/stage_runner.hpp"
#include "support/overlap_trace.hpp"

namespace moesaic {
namespace {

constexpr int num_stages = 3;

Recording* recording_of_operators = nullptr;

/// The layers compute nothing; attention stands for the whole block.
Operators reporting_operators() {
  Operators ops = silent_operators(DeviceKind::cpu);
  ops.attention_forward = [](auto...) { recording_of_operators->compute("forward"); };
  ops.attention_backward = [](auto...) { recording_of_operators->compute("backward"); };
  return ops;
}

ModelSpec small_model() {
  ModelSpec spec;
  spec.hidden = 16;
  spec.vocabulary = 24;
  spec.blocks.resize(3);
  for (BlockSpec& block : spec.blocks) {
    block.attention = {.hidden = 16, .heads = 2, .key_heads = 1, .width = 8};
    block.dense_width = 32;
  }
  return spec;
}

class PipelineOverlap : public ::testing::Test {
 protected:
  PipelineOverlap() { recording_of_operators = &recording; }

  void run(ScheduleKind kind, std::int64_t micro_batches) {
    std::vector<MicroBatch> batches(static_cast<std::size_t>(micro_batches));
    for (MicroBatch& batch : batches) {
      batch.sequences = 1;
      batch.length = 8;
    }
    runner.run(make_schedule(kind, num_stages, 1, 1, micro_batches), batches, Reduction::every_micro_batch, nullptr);
  }

  /// "receive above" when it starts and "received above" when it is waited for, from the stage above (activations);
  /// likewise below (gradients), and "send below", "sent below"; computations by name.
  Trace trace() const {
    Trace words;
    for (const RecordedEvent& event : recording.events()) {
      const bool downwards = event.channel == "down", sends = event.name == "send";
      const std::string stage = downwards == sends ? " below" : " above";
      if (event.kind == RecordedEvent::Kind::compute)
        words.push_back(event.name);
      else if (event.kind == RecordedEvent::Kind::initiate)
        words.push_back(event.name + stage);
      else
        words.push_back((sends ? "sent" : "received") + stage);
    }
    return words;
  }

  std::unique_ptr<Communicator> stages(const char* channel) {
    return std::make_unique<RecordingCommunicator>(std::make_unique<MirrorCommunicator>(num_stages), channel,
                                                   recording);
  }
  StageBlocks middle() const { return {.blocks = {model.blocks()[0].get()}, .chunks = {{0, 1}}}; }

  Recording recording, elsewhere;
  Operators ops = reporting_operators();
  Arena arena{host_memory()};
  LayerContext context{&ops, {host_stream, &arena}, DType::f32};
  Communicators communicators = mirrored_communicators(1, elsewhere);
  std::unique_ptr<Communicator> down = stages("down"), up = stages("up");
  LocalSequences sequences;
  LocalExperts experts;
  Model model{small_model(), 8, sequences, experts, nullptr, context, {{2, 3}}};
  FullySharded sharding{model.blocks(), context, ProcessGrid::make({}, 1), 0, communicators};
  PipelineLink link{{1, num_stages, 1}, context, *down, *up, small_model().hidden};
  StageRunner runner{middle(), sharding, link, context};
};

TEST_F(PipelineOverlap, ReceivesStartOneStepAheadAndSendsEndWhenTheyMust) {
  run(ScheduleKind::one_f_one_b, 3);
  EXPECT_EQ(trace(),
            (Trace{"receive above",                                                 //
                   "receive above",  "received above", "forward",    "send below",  // F0
                   "receive below",  "received above", "forward",    "send below",  // F1
                   "receive above",  "received below", "backward",   "send above",  // B0
                   "receive below",  "received above", "forward",    "send below",  // F2
                   "receive below",  "received below", "backward",   "send above",  // B1
                   "received below", "backward",       "send above",                // B2
                   "sent below",     "sent below",     "sent above", "sent below", "sent above", "sent above"}));
}

TEST_F(PipelineOverlap, OnlyTheFirstReceiveAndTheLastSendShow) {
  // Six computations of 10 and twelve messages of 4.
  run(ScheduleKind::one_f_one_b, 3);
  const SimulatedTimes times = simulate(recording, {.compute = 10, .latency = 4});
  EXPECT_EQ(times.sum, 6 * 10 + 12 * 4);
  EXPECT_EQ(times.elapsed, 6 * 10 + 2 * 4);
}

/// The gradient of the input leaves before the weight gradients are taken.
TEST_F(PipelineOverlap, ZeroBubbleSendsBeforeWeightGradients) {
  ops.gemm = [](const OperatorContext&, Transpose a, auto...) {
    if (a == Transpose::yes) recording_of_operators->compute("weights");
  };
  run(ScheduleKind::zero_bubble, 2);
  const Trace words = trace();
  EXPECT_TRUE(comes_before(trace_from(words, "backward"), "send above", "weights"));
  EXPECT_EQ(std::count(words.begin(), words.end(), "send above"), 2);
}

}  // namespace
}  // namespace moesaic
