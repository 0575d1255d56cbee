/// The ring exchanges while attention computes: shown by the order of what rank 0 of four mirrored ranks does.
#include <gtest/gtest.h>

#include "moesaic/parallel/context_parallel.hpp"
#include "support/host_tensor.hpp"
#include "support/overlap_trace.hpp"

namespace moesaic {
namespace {

constexpr int num_ranks = 4;

Recording* recording_of_operators = nullptr;

void reporting_forward(const OperatorContext& on, const AttentionMask& mask, double scale, ConstView q, ConstView k,
                       ConstView v, View out, View log_sum_exp) {
  recording_of_operators->compute("attention");
  reference::attention_forward(on, mask, scale, q, k, v, out, log_sum_exp);
}
void reporting_backward(const OperatorContext& on, const AttentionMask& mask, double scale, ConstView q, ConstView k,
                        ConstView v, ConstView out, ConstView log_sum_exp, ConstView out_gradient, View q_gradient,
                        View k_gradient, View v_gradient) {
  recording_of_operators->compute("attention");
  reference::attention_backward(on, mask, scale, q, k, v, out, log_sum_exp, out_gradient, q_gradient, k_gradient,
                                v_gradient);
}

Operators reporting_operators() {
  Operators ops = operators(DeviceKind::cpu);
  ops.attention_forward = reporting_forward;
  ops.attention_backward = reporting_backward;
  return ops;
}

class RingOverlap : public ::testing::Test {
 protected:
  RingOverlap() { recording_of_operators = &recording; }

  void forward() { ring.attention_forward(ctx, {}, 0.5, q, k, v, out, log_sum_exp); }
  void backward() {
    ring.attention_backward(ctx, {}, 0.5, q, k, v, out, log_sum_exp, out, q_gradient, k_gradient, v_gradient);
  }

  /// "send", "receive" when they start, "sent", "received" when they are waited for, "attention".
  Trace trace() const {
    Trace words;
    for (const RecordedEvent& event : recording.events()) {
      const bool complete = event.kind == RecordedEvent::Kind::complete;
      words.push_back(!complete ? event.name : event.name == "send" ? "sent" : event.name + "d");
    }
    return words;
  }

  Recording recording;
  RecordingCommunicator ranks{std::make_unique<MirrorCommunicator>(num_ranks), "context", recording};
  RingExchange ring{ranks};
  Operators ops = reporting_operators();
  Arena arena{host_memory()};
  LayerContext ctx{&ops, {host_stream, &arena}, DType::f32};
  HostTensor q{DType::f32, {1, 4, 2, 4}}, k{DType::f32, {1, 4, 1, 4}}, v{DType::f32, {1, 4, 1, 4}};
  HostTensor out{DType::f32, {1, 4, 2, 4}}, log_sum_exp{DType::f32, {1, 2, 4}};
  HostTensor q_gradient{DType::f32, {1, 4, 2, 4}}, k_gradient{DType::f32, {1, 4, 1, 4}},
      v_gradient{DType::f32, {1, 4, 1, 4}};
};

/// Three pairs of blocks at home, two with the blocks of each other rank.
TEST_F(RingOverlap, KeysTravelWhileAttentionComputes) {
  forward();
  EXPECT_EQ(trace(), (Trace{"send",      "receive",  "attention", "attention", "attention", "sent",     "received",  //
                            "send",      "receive",  "attention", "attention", "sent",      "received",              //
                            "send",      "receive",  "attention", "attention", "sent",      "received",              //
                            "attention", "attention"}));
}

TEST_F(RingOverlap, GradientsFollowByOneStep) {
  forward();
  recording.clear();
  backward();
  EXPECT_EQ(trace(), (Trace{"send", "receive",  "attention", "attention", "attention", "sent",      "received",  //
                            "send", "receive",  "attention", "attention", "sent",      "received",               //
                            "send", "receive",  "send",      "receive",   "attention", "attention",              //
                            "sent", "received", "sent",      "received",                                         //
                            "send", "receive",  "attention", "attention", "sent",      "received",               //
                            "send", "receive",  "sent",      "received"}));
}

TEST_F(RingOverlap, AllExchangesHideBehindAttention) {
  // Nine computations of 10 and six messages of 4, none of which shows.
  forward();
  const SimulatedTimes times = simulate(recording, {.compute = 10, .latency = 4});
  EXPECT_EQ(times.sum, 9 * 10 + 6 * 4);
  EXPECT_EQ(times.elapsed, 9 * 10);
}

}  // namespace
}  // namespace moesaic
