#include "moesaic/kernels/rotary.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "support/finite_difference.hpp"
#include "support/host_context.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

HostContext context;

/// Angles p * (i + 1) / 10 for positions [0, count) and pairs [0, half).
struct Tables {
  Tables(DType type, std::int64_t count, std::int64_t half) : cosine(type, {count, half}), sine(type, {count, half}) {
    for (std::int64_t i = 0; i < count * half; ++i) {
      const double angle = static_cast<double>(i / half * (i % half + 1)) / 10;
      set_element(cosine, i, std::cos(angle));
      set_element(sine, i, std::sin(angle));
    }
  }
  HostTensor cosine, sine;
};

class RotaryOfPairs : public ::testing::TestWithParam<RotaryPairs> {};

TEST(Rotary, QuarterTurnLiterals) {
  const HostTensor cosine = make_tensor(DType::f64, {2, 2}, {1, 1, 0, 1}),
                   sine = make_tensor(DType::f64, {2, 2}, {0, 0, 1, 0});
  const HostTensor positions = make_tensor(DType::i32, {2}, {1, 0});
  HostTensor x = make_tensor(DType::f64, {2, 1, 4}, {1, 2, 3, 4, 5, 6, 7, 8});
  reference::rotary(context, x, cosine, sine, positions, RotaryPairs::halves, RotaryDirection::forward);
  EXPECT_EQ(elements(x), (std::vector<double>{-3, 2, 1, 4, 5, 6, 7, 8}));
  x = make_tensor(DType::f64, {2, 1, 4}, {1, 2, 3, 4, 5, 6, 7, 8});
  reference::rotary(context, x, cosine, sine, positions, RotaryPairs::interleaved, RotaryDirection::forward);
  EXPECT_EQ(elements(x), (std::vector<double>{-2, 1, 3, 4, 5, 6, 7, 8}));
}

TEST_P(RotaryOfPairs, BackwardIsTheGradientOfForward) {
  const Tables tables(DType::f64, 5, 3);
  const HostTensor positions = make_tensor(DType::i32, {4}, {4, 0, 2, 2});
  HostTensor x = random_tensor(DType::f64, {4, 2, 6}, 1);
  const HostTensor weights = random_tensor(DType::f64, {4, 2, 6}, 2);
  HostTensor gradient = weights;
  reference::rotary(context, gradient, tables.cosine, tables.sine, positions, GetParam(), RotaryDirection::backward);
  const auto loss = [&] {
    HostTensor y = x;
    reference::rotary(context, y, tables.cosine, tables.sine, positions, GetParam(), RotaryDirection::forward);
    return inner_product(weights, y);
  };
  EXPECT_LT(max_gradient_error(loss, x, gradient), 1e-6);
}

TEST_P(RotaryOfPairs, FloatAgreesWithDoubleOnStridedHeads) {
  for (const std::int64_t tokens : {0, 1, 131}) {
    const Tables single(DType::f32, 7, 9), exact(DType::f64, 7, 9);
    HostTensor positions(DType::i32, {tokens});
    fill_random_integers(positions, 3, 0, 6);
    HostTensor dense = random_tensor(DType::f64, {tokens, 3, 18}, 1), wide(DType::f32, {tokens, 3 * 18 + 5});
    const View x = wide.view().slice(1, 5, 59).split_last(3, 18);
    assign(x, elements(dense));
    reference::rotary(context, x, single.cosine, single.sine, positions, GetParam(), RotaryDirection::forward);
    reference::rotary(context, dense, exact.cosine, exact.sine, positions, GetParam(), RotaryDirection::forward);
    EXPECT_LT(max_difference(x, dense), 1e-6);
    EXPECT_EQ(elements(wide.view().slice(1, 0, 5)), std::vector<double>(static_cast<std::size_t>(5 * tokens)));
  }
}

INSTANTIATE_TEST_SUITE_P(Pairs, RotaryOfPairs, ::testing::Values(RotaryPairs::halves, RotaryPairs::interleaved));

}  // namespace
}  // namespace moesaic
