/// The shared expert computes while tokens and gradients travel to the routed ones: shown by the recorded order of a MoE
/// layer on rank 0 of four mirrored ranks.
#include <gtest/gtest.h>

#include "moesaic/layers/moe.hpp"
#include "moesaic/parallel/expert_parallel.hpp"
#include "support/overlap_trace.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

constexpr int num_ranks = 4;
constexpr MoeSpec spec{.hidden = 4, .width = 3, .experts = 8, .top_k = 2, .shared_width = 5};

Recording* recording_of_operators = nullptr;

/// The shared expert is told by the width of what its first matrix makes, the routed ones by their operators.
Operators reporting_operators() {
  Operators ops = operators(DeviceKind::cpu);
  ops.gemm = [](const OperatorContext& on, Transpose transpose_a, Transpose transpose_b, double alpha, ConstView a,
                ConstView b, double beta, View c) {
    for (const ConstView& matrix : {a, ConstView(c)})
      if (matrix.extent(1) == 2 * spec.shared_width) recording_of_operators->compute("shared");
    reference::gemm(on, transpose_a, transpose_b, alpha, a, b, beta, c);
  };
  ops.expert_up = [](const OperatorContext& on, const SwigluOptions& options, ConstView in, ConstView slot_token,
                     ConstView up, ConstView bias, ConstView offsets, View gate_up, View activated) {
    recording_of_operators->compute("routed");
    reference::expert_up(on, options, in, slot_token, up, bias, offsets, gate_up, activated);
  };
  ops.expert_down_backward = [](const OperatorContext& on, const SwigluOptions& options, const SlotRouting& routing,
                                ConstView output_gradient, ConstView down, ConstView bias, View gate_up, View activated,
                                View weights_gradient) {
    recording_of_operators->compute("routed");
    reference::expert_down_backward(on, options, routing, output_gradient, down, bias, gate_up, activated,
                                    weights_gradient);
  };
  return ops;
}

class SharedExpertOverlap : public ::testing::Test {
 protected:
  SharedExpertOverlap() {
    recording_of_operators = &recording;
    batch.sequences = 2;
    batch.length = 4;
    for (const ParameterSpec& parameter : layer.dense_parameters()) add(parameter.shape, dense);
    for (ParameterSpec& parameter : layer.expert_parameters()) {
      parameter.shape[0] /= num_ranks;
      add(parameter.shape, experts);
    }
  }

  void add(const Extents& shape, std::vector<View>& views) {
    values.push_back(std::make_unique<HostTensor>(random_tensor(DType::f32, shape, 7)));
    views.push_back(*values.back());
  }
  FeedForwardViews weights() const { return {dense, experts}; }

  /// "leave" when rows start to travel, "arrive" when they are waited for, once for those that travel together.
  Trace trace() const {
    Trace words;
    for (const RecordedEvent& event : recording.events()) {
      if (event.kind == RecordedEvent::Kind::compute) words.push_back(event.name);
      const std::string word = event.kind == RecordedEvent::Kind::initiate ? "leave" : "arrive";
      if ((event.name == "all_to_all" || event.name == "all_gather") && (words.empty() || words.back() != word))
        words.push_back(word);
    }
    return words;
  }

  Recording recording;
  RecordingCommunicator ranks{std::make_unique<MirrorCommunicator>(num_ranks), "expert", recording};
  ExpertParallel exchange{ranks};
  Operators ops = reporting_operators();
  Arena arena{host_memory()};
  LayerContext ctx{&ops, {host_stream, &arena}, DType::f32};
  HostTensor load{DType::i64, {spec.experts}}, auxiliary_loss{DType::f64, {1}};
  MoeLayer layer{spec, "m", exchange, nullptr, {{}, load, auxiliary_loss}};
  MicroBatch batch;
  HostTensor x = random_tensor(DType::f32, {8, spec.hidden}, 1);
  std::vector<std::unique_ptr<HostTensor>> values;
  std::vector<View> dense, experts;
  std::unique_ptr<FeedForwardState> state;
};

// First the counts, for which the host waits; then tokens leave, and arrive when the shared expert is done.
TEST_F(SharedExpertOverlap, TokensTravelWhileItComputes) {
  layer.forward(ctx, weights(), batch, x, state);
  EXPECT_EQ(trace(), (Trace{"leave", "arrive", "leave", "shared", "arrive", "routed", "leave", "arrive"}));
}

TEST_F(SharedExpertOverlap, GradientsTravelWhileItComputes) {
  layer.forward(ctx, weights(), batch, x, state);
  recording.clear();
  layer.backward_input(ctx, weights(), x, *state);
  EXPECT_EQ(trace(), (Trace{"leave", "shared", "arrive", "routed", "leave", "arrive"}));
}

TEST_F(SharedExpertOverlap, RecomputationHidesItsDispatchToo) {
  layer.forward(ctx, weights(), batch, x, state);
  layer.forget(*state);
  recording.clear();
  layer.recompute(ctx, weights(), x, *state);
  EXPECT_EQ(trace(), (Trace{"leave", "arrive", "leave", "shared", "arrive", "routed"}));
  layer.backward_input(ctx, weights(), x, *state);
}

}  // namespace
}  // namespace moesaic
