#include "moesaic/kernels/experts.hpp"

#include "moesaic/kernels/expert_scratch.hpp"
#include "moesaic/kernels/permutation.hpp"
#include "support/gpu.hpp"
#include "support/random.hpp"

#include <optional>

namespace moesaic {
namespace {

constexpr SwigluOptions gpt_oss{.alpha = 1.702, .limit = 1, .up_offset = 1};

struct Case {
  std::int64_t tokens, hidden, width, experts, top_k;
  DType type = DType::bf16;
  bool bias = false;
  SwigluOptions swiglu = {};
  std::int64_t least_expert = -1, most_expert = -1;  ///< -1: entries without a slot, and the last expert

  std::int64_t last() const { return most_expert < 0 ? experts - 1 : most_expert; }
};

/// Inputs of both operators.
struct Inputs {
  explicit Inputs(const Case& c)
      : keys(DType::i32, {c.tokens, c.top_k}), offsets(DType::i64, {c.experts + 1}),
        slot_token(DType::i32, {c.tokens * c.top_k}), token_slot(DType::i32, {c.tokens, c.top_k}),
        weights(random_tensor(DType::f32, {c.tokens, c.top_k}, 2)), x(random_tensor(c.type, {c.tokens, c.hidden}, 3)),
        up(random_tensor(c.type, {c.experts, 2 * c.width, c.hidden}, 4, 0.25)),
        down(random_tensor(c.type, {c.experts, c.hidden, c.width}, 5, 0.25)) {
    fill_random_integers(keys, 1, c.least_expert, c.last());
    reference::sort_by_key({}, keys, offsets, slot_token, token_slot);
    slots = offsets.data<std::int64_t>()[c.experts];
    gate_up = random_tensor(c.type, {slots, 2 * c.width}, 6, 4);
    if (!c.bias) return;
    up_bias = random_tensor(c.type, {c.experts, 2 * c.width}, 7, 2);
    down_bias = random_tensor(c.type, {c.experts, c.hidden}, 8, 2);
  }

  HostTensor keys, offsets, slot_token, token_slot, weights, x, up, down;
  std::int64_t slots = 0;
  std::optional<HostTensor> gate_up, up_bias, down_bias;
};

HostTensor wide(ConstView values) { return converted(values, DType::f64); }

class ExpertsGpu : public GpuTest {
 protected:
  void check(const Case& c) {
    SCOPED_TRACE(fmt::format("{} tokens of {} to {} of {} experts of {}, {}{}, alpha {}", c.tokens, c.hidden, c.top_k,
                             c.experts, c.width, name_of(c.type), c.bias ? " with bias" : "", c.swiglu.alpha));
    const Inputs in(c);
    check_up(c, in);
    check_down_backward(c, in);
    for (const double beta : {0.0, 1.0}) {
      check_weight_gradient(TokenSide::output_gradient, in, in.x, random_tensor(c.type, {in.slots, c.width}, 9), beta);
      check_weight_gradient(TokenSide::in, in, random_tensor(c.type, {in.slots, 2 * c.width}, 10), in.x, beta);
    }
  }

  void check_weight_gradient(TokenSide side, const Inputs& in, const HostTensor& output_gradient,
                             const HostTensor& operand, double beta, DType type = DType::f32) {
    SCOPED_TRACE(fmt::format("weight gradient, tokens' side {}, beta {}", static_cast<int>(side), beta));
    const Extents extents{in.up.view().extent(0), output_gradient.view().extent(1), operand.view().extent(1)};
    const HostTensor before = random_tensor(type, extents, 11);
    HostTensor gradient = wide(before);
    reference::expert_weight_gradient(on_host, side, wide(output_gradient), wide(operand), in.slot_token, in.offsets,
                                      beta, gradient);
    const auto run = [&](ExpertWeightGradient* weight_gradient) {
      const Tensor result = beta == 0 ? poisoned(type, extents) : to_device(before);
      weight_gradient(context, side, to_device(output_gradient), to_device(operand), to_device(in.slot_token),
                      to_device(in.offsets), beta, result);
      return to_host(result);
    };
    const HostTensor fused = run(cuda::expert_weight_gradient);
    EXPECT_LT(relative_error(fused, gradient), tolerance_of(type));
    EXPECT_EQ(max_difference(fused, run(cuda::expert_weight_gradient)), 0);
    EXPECT_EQ(max_difference(fused, run(cuda::plain_expert_weight_gradient)), 0);  // the same sums in the same order
  }

  void check_up(const Case& c, const Inputs& in) {
    HostTensor gate_up(DType::f64, {in.slots, 2 * c.width}), activated(DType::f64, {in.slots, c.width});
    const HostTensor bias = in.up_bias ? wide(*in.up_bias) : HostTensor(DType::f64, {0});
    reference::expert_up(on_host, c.swiglu, wide(in.x), in.slot_token, wide(in.up),
                         in.up_bias ? bias.view() : ConstView(), in.offsets, gate_up, activated);
    const auto run = [&](ExpertUp* up) {
      std::pair results{poisoned(c.type, gate_up.view().extents()), poisoned(c.type, activated.view().extents())};
      const Tensor device_bias = in.up_bias ? to_device(*in.up_bias) : Tensor();
      up(context, c.swiglu, to_device(in.x), to_device(in.slot_token), to_device(in.up), device_bias,
         to_device(in.offsets), results.first, results.second);
      return std::pair{to_host(results.first), to_host(results.second)};
    };
    const auto fused = run(cuda::expert_up), again = run(cuda::expert_up), plain = run(cuda::plain_expert_up);
    EXPECT_LT(relative_error(fused.first, gate_up), tolerance_of(c.type));
    EXPECT_LT(relative_error(fused.second, activated), tolerance_of(c.type));
    for (const auto& other : {&again, &plain}) {  // fused or not, the same sums are rounded at the same places
      EXPECT_EQ(max_difference(fused.first, other->first), 0);
      EXPECT_EQ(max_difference(fused.second, other->second), 0);
    }
  }

  struct Gradients {
    HostTensor gate_up, activated, weights;
  };

  Gradients down_backward(const Case& c, const Inputs& in, ExpertDownBackward* backward) {
    const Tensor gate_up = to_device(*in.gate_up), activated = poisoned(c.type, {in.slots, c.width});
    const Tensor weights_gradient = poisoned(DType::f32, in.weights.view().extents());
    const Tensor offsets = to_device(in.offsets), slot_token = to_device(in.slot_token);
    const Tensor token_slot = to_device(in.token_slot), weights = to_device(in.weights);
    const Tensor bias = in.down_bias ? to_device(*in.down_bias) : Tensor();
    backward(context, c.swiglu, {offsets, slot_token, token_slot, weights}, to_device(in.x), to_device(in.down), bias,
             gate_up, activated, weights_gradient);
    return {to_host(gate_up), to_host(activated), to_host(weights_gradient)};
  }

  void check_down_backward(const Case& c, const Inputs& in) {
    HostTensor gate_up = wide(*in.gate_up), activated(DType::f64, {in.slots, c.width});
    HostTensor weights_gradient(DType::f64, in.weights.view().extents());
    const HostTensor weights = wide(in.weights);
    const HostTensor bias = in.down_bias ? wide(*in.down_bias) : HostTensor(DType::f64, {0});
    reference::expert_down_backward(on_host, c.swiglu, {in.offsets, in.slot_token, in.token_slot, weights}, wide(in.x),
                                    wide(in.down), in.down_bias ? bias.view() : ConstView(), gate_up, activated,
                                    weights_gradient);
    const Gradients fused = down_backward(c, in, cuda::expert_down_backward);
    const Gradients again = down_backward(c, in, cuda::expert_down_backward);
    const Gradients plain = down_backward(c, in, cuda::plain_expert_down_backward);
    for (const Gradients* result : {&fused, &plain}) {
      EXPECT_LT(relative_error(result->gate_up, gate_up), tolerance_of(c.type));
      EXPECT_LT(relative_error(result->activated, activated), tolerance_of(c.type));
    }
    // The plain one takes <h, a> from what it rounded and stored.
    const double rounded = c.type == DType::bf16 ? 3e-2 : tolerance_of(c.type);
    const bool exact = experts_fuse(DeviceKind::cuda, in.x, in.down);
    EXPECT_LT(relative_error(fused.weights, weights_gradient), exact ? tolerance_of(DType::f32) : rounded);
    EXPECT_LT(relative_error(plain.weights, weights_gradient), rounded);
    EXPECT_EQ(max_difference(fused.gate_up, again.gate_up), 0);
    EXPECT_EQ(max_difference(fused.activated, again.activated), 0);
    EXPECT_EQ(max_difference(fused.weights, again.weights), 0);
  }
};

TEST_F(ExpertsGpu, AnyRouting) {
  for (const DType type : {DType::bf16, DType::f32}) {
    check({131, 128, 192, 7, 3, type});
    check({300, 64, 96, 5, 2, type, false, {}, 3, 3});  // all to one expert
    check({40, 64, 64, 5, 2, type, false, {}, -1, -1});
    check({1, 64, 64, 4, 1, type, false, {}, 0, 3});
    check({0, 64, 64, 4, 2, type});
  }
}

TEST_F(ExpertsGpu, AnyWidth) {
  for (const std::int64_t width : {64, 128, 256, 320, 448, 768}) check({260, 192, width, 3, 2});
  for (const DType type : {DType::bf16, DType::f32}) {
    check({131, 67, 33, 3, 2, type});
    check({131, 72, 40, 3, 2, type});
  }
}

TEST_F(ExpertsGpu, EveryUnitAndBias) {
  for (const DType type : {DType::bf16, DType::f32})
    for (const bool bias : {false, true})
      for (const SwigluOptions& swiglu : {SwigluOptions(), gpt_oss}) check({517, 320, 192, 9, 4, type, bias, swiglu});
}

TEST_F(ExpertsGpu, LongSumsAndManyTiles) {
  check({1500, 1088, 384, 12, 4});
  check({3000, 128, 64, 128, 8});
  check({700, 576, 320, 4, 2});  // odd numbers of tiles both ways
}

TEST_F(ExpertsGpu, WeightGradientsInBf16) {
  const Case c{131, 128, 192, 7, 3};
  const Inputs in(c);
  check_weight_gradient(TokenSide::in, in, random_tensor(c.type, {in.slots, 2 * c.width}, 10), in.x, 0, DType::bf16);
}

TEST_F(ExpertsGpu, ActivationIsNotWanted) {
  const Case c{131, 128, 192, 7, 3};
  const Inputs in(c);
  const auto run = [&](View activated) {
    const Tensor gate_up = poisoned(c.type, {in.slots, 2 * c.width});
    cuda::expert_up(context, c.swiglu, to_device(in.x), to_device(in.slot_token), to_device(in.up), {},
                    to_device(in.offsets), gate_up, activated);
    return to_host(gate_up);
  };
  EXPECT_EQ(max_difference(run(View()), run(poisoned(c.type, {in.slots, c.width}))), 0);
}

}  // namespace
}  // namespace moesaic
