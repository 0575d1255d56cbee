#include "moesaic/kernels/experts.hpp"

#include <gtest/gtest.h>

#include "moesaic/kernels/bias.hpp"
#include "moesaic/kernels/expert_scratch.hpp"
#include "moesaic/kernels/gemm.hpp"
#include "moesaic/kernels/permutation.hpp"
#include "support/finite_difference.hpp"
#include "support/host_context.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

constexpr SwigluOptions gpt_oss{.alpha = 1.702, .limit = 0.9, .up_offset = 1};

/// Five tokens, two of three experts each or fewer; the middle expert has no rows.
struct Experts : ::testing::Test {
  static constexpr std::int64_t tokens = 5, hidden = 4, width = 3, experts = 3, top_k = 2, slots = 8;

  void SetUp() override { reference::sort_by_key(context, keys, offsets, slot_token, token_slot); }

  SlotRouting routing() const { return {offsets, slot_token, token_slot, weights}; }

  /// <direction, sum over slots of weight * (down(swiglu(up(x))) + bias)>.
  double loss() {
    HostTensor activated(DType::f64, {slots, width}), out(DType::f64, {slots, hidden}), y(DType::f64, {tokens, hidden});
    reference::swiglu_forward(context, gpt_oss, gate_up, activated);
    reference::grouped_gemm(context, Transpose::yes, activated, down, offsets, out);
    reference::add_bias(context, down_bias, offsets, out);
    reference::combine_rows(context, out, token_slot, weights, y);
    return inner_product(direction, y);
  }

  HostContext context;
  HostTensor keys = make_tensor(DType::i32, {tokens, top_k}, {0, 2, 2, 0, -1, 0, 2, 0, 0, -1});
  HostTensor offsets{DType::i64, {experts + 1}}, slot_token{DType::i32, {tokens * top_k}};
  HostTensor token_slot{DType::i32, {tokens, top_k}};
  HostTensor weights = random_tensor(DType::f64, {tokens, top_k}, 1),
             x = random_tensor(DType::f64, {tokens, hidden}, 2);
  HostTensor up = random_tensor(DType::f64, {experts, 2 * width, hidden}, 3);
  HostTensor up_bias = random_tensor(DType::f64, {experts, 2 * width}, 4);
  HostTensor down = random_tensor(DType::f64, {experts, hidden, width}, 5);
  HostTensor down_bias = random_tensor(DType::f64, {experts, hidden}, 6);
  HostTensor gate_up = random_tensor(DType::f64, {slots, 2 * width}, 7, 2);
  HostTensor direction = random_tensor(DType::f64, {tokens, hidden}, 8);
};

// Slot 1 is token 1's of expert 0.
TEST_F(Experts, UpIsAProductOfTheTokensRow) {
  HostTensor activated(DType::f64, {slots, width}), expected(DType::f64, {slots, width});
  poison(gate_up);
  poison(activated);
  reference::expert_up(context, gpt_oss, x, slot_token, up, up_bias, offsets, gate_up, activated);
  for (std::int64_t column = 0; column < 2 * width; ++column) {
    double sum = element(up_bias, column);
    for (std::int64_t i = 0; i < hidden; ++i) sum += element(x, hidden + i) * element(up, column * hidden + i);
    EXPECT_NEAR(element(gate_up, 2 * width + column), sum, 1e-14);
  }
  reference::swiglu_forward(context, gpt_oss, gate_up, expected);
  EXPECT_EQ(max_difference(activated, expected), 0);
  HostTensor again(DType::f64, {slots, 2 * width});
  reference::expert_up(context, gpt_oss, x, slot_token, up, up_bias, offsets, again, View());
  EXPECT_EQ(max_difference(again, gate_up), 0) << "the activation is not wanted";
}

TEST_F(Experts, DownBackwardAgreesWithFiniteDifferences) {
  HostTensor gradient = gate_up, activated(DType::f64, {slots, width}), weights_gradient(DType::f64, {tokens, top_k});
  poison(activated);
  poison(weights_gradient);
  reference::expert_down_backward(context, gpt_oss, routing(), direction, down, down_bias, gradient, activated,
                                  weights_gradient);
  EXPECT_LT(max_gradient_error([&] { return loss(); }, gate_up, gradient), 1e-6);
  EXPECT_LT(max_gradient_error([&] { return loss(); }, weights, weights_gradient), 1e-6);
  EXPECT_EQ(element(weights_gradient, 4), 0) << "an entry without a slot";

  HostTensor down_gradient(DType::f64, {experts, hidden, width});
  reference::expert_weight_gradient(context, TokenSide::output_gradient, direction, activated, slot_token, offsets, 0,
                                    down_gradient);
  EXPECT_LT(max_gradient_error([&] { return loss(); }, down, down_gradient), 1e-6);
  EXPECT_EQ(context.arena().used(), 0);
}

// Both operands are read where they lie: expert 1 has no slots.
TEST_F(Experts, WeightGradientFindsTokensRows) {
  HostTensor gradient = random_tensor(DType::f64, {experts, 2 * width, hidden}, 9), expected = gradient;
  reference::expert_weight_gradient(context, TokenSide::in, gate_up, x, slot_token, offsets, 1, gradient);
  const auto* token = slot_token.data<std::int32_t>();
  const auto* begin = offsets.data<std::int64_t>();
  for (std::int64_t e = 0; e < experts; ++e)
    for (std::int64_t slot = begin[e]; slot < begin[e + 1]; ++slot)
      for (std::int64_t i = 0; i < 2 * width * hidden; ++i)
        expected.data<double>()[e * 2 * width * hidden + i] +=
            element(gate_up, slot * 2 * width + i / hidden) * element(x, token[slot] * hidden + i % hidden);
  EXPECT_LT(max_difference(gradient, expected), 1e-13);
  EXPECT_EQ(context.arena().used(), 0);
}

TEST(ExpertScratch, IsSmallWhereStepsAreFused) {
  HostContext context;
  HostTensor tokens(DType::bf16, {10, 128}), down(DType::bf16, {2, 128, 256}), gate_up(DType::bf16, {20, 512});
  EXPECT_TRUE(experts_fuse(DeviceKind::cuda, tokens, down));
  EXPECT_FALSE(experts_fuse(DeviceKind::cpu, tokens, down));
  EXPECT_FALSE(experts_fuse(DeviceKind::cuda, tokens, HostTensor(DType::bf16, {2, 128, 200})));
  EXPECT_FALSE(
      experts_fuse(DeviceKind::cuda, HostTensor(DType::f32, {10, 128}), HostTensor(DType::f32, {2, 128, 256})));
  const ExpertScratch fused = expert_down_backward_scratch(context, true, tokens, gate_up);
  EXPECT_EQ(fused.products.view().extents(), (Extents{20, 2}));  // 256 columns are two tiles of 192
  EXPECT_TRUE(fused.gathered.absent());
  const ExpertScratch steps = expert_down_backward_scratch(context, false, tokens, gate_up);
  EXPECT_EQ(steps.gathered.view().extents(), (Extents{20, 128}));
  EXPECT_EQ(steps.gradient.view().extents(), (Extents{20, 256}));

  const HostTensor activated(DType::bf16, {20, 256}), gradient(DType::f32, {2, 128, 256});
  EXPECT_TRUE(expert_gradient_fuses(DeviceKind::cuda, TokenSide::output_gradient, tokens, activated, gradient));
  EXPECT_FALSE(expert_gradient_fuses(DeviceKind::cpu, TokenSide::output_gradient, tokens, activated, gradient));
  EXPECT_TRUE(expert_weight_gradient_scratch(context, true, tokens, activated).gathered.absent());
  EXPECT_EQ(expert_weight_gradient_scratch(context, false, tokens, activated).gathered.view().extents(),
            (Extents{20, 128}));
}

}  // namespace
}  // namespace moesaic
