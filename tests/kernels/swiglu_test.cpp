#include "moesaic/kernels/swiglu.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "support/finite_difference.hpp"
#include "support/host_context.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

HostContext context;

constexpr SwigluOptions gpt_oss{.alpha = 1.702, .limit = 7, .up_offset = 1};

/// The definition, written out.
double by_definition(const SwigluOptions& options, double gate, double up) {
  const double g = std::min(gate, options.limit), u = std::max(-options.limit, std::min(up, options.limit));
  return g / (1 + std::exp(-options.alpha * g)) * (u + options.up_offset);
}

TEST(Swiglu, Literals) {
  // silu(0) = 0; silu(ln 3) = ln 3 * 3 / 4.
  const HostTensor gate_up = make_tensor(DType::f64, {1, 4}, {0, std::log(3.0), 5, 4});
  HostTensor y(DType::f64, {1, 2}), gradient(DType::f64, {1, 4});
  poison(y);
  poison(gradient);
  reference::swiglu_forward(context, {}, gate_up, y);
  EXPECT_EQ(element(y, 0), 0);
  EXPECT_NEAR(element(y, 1), 3 * std::log(3.0), 1e-15);
  reference::swiglu_backward(context, {}, gate_up, make_tensor(DType::f64, {1, 2}, {1, 0}), gradient);
  EXPECT_EQ(elements(gradient), (std::vector<double>{2.5, 0, 0, 0})) << "silu'(0) = 1/2";
}

TEST(Swiglu, GradientIsThatOfFiniteDifferences) {
  HostTensor gate_up = random_tensor(DType::f64, {3, 10}, 1, 4), y(DType::f64, {3, 5}), gradient(DType::f64, {3, 10});
  const HostTensor dy = random_tensor(DType::f64, {3, 5}, 2);
  reference::swiglu_backward(context, {}, gate_up, dy, gradient);
  const auto loss = [&] {
    reference::swiglu_forward(context, {}, gate_up, y);
    return inner_product(dy, y);
  };
  EXPECT_LT(max_gradient_error(loss, gate_up, gradient), 1e-6);
}

TEST(Swiglu, OptionsFollowTheDefinition) {
  const HostTensor gate_up = random_tensor(DType::f64, {131, 2 * 19}, 1, 16);  // beyond the limit on both sides
  HostTensor y(DType::f64, {131, 19});
  for (const SwigluOptions& options : {gpt_oss, SwigluOptions{.alpha = 2}, SwigluOptions{.limit = 3},
                                       SwigluOptions{.up_offset = -0.5}, SwigluOptions{}}) {
    poison(y);
    reference::swiglu_forward(context, options, gate_up, y);
    for (std::int64_t row = 0; row < 131; ++row)
      for (std::int64_t i = 0; i < 19; ++i)
        ASSERT_NEAR(element(y, row * 19 + i),
                    by_definition(options, element(gate_up, row * 38 + i), element(gate_up, row * 38 + 19 + i)), 1e-13);
  }
}

TEST(Swiglu, GradientWithOptionsIsThatOfFiniteDifferences) {
  HostTensor gate_up = random_tensor(DType::f64, {5, 26}, 1, 16), y(DType::f64, {5, 13}), gradient(DType::f64, {5, 26});
  const HostTensor dy = random_tensor(DType::f64, {5, 13}, 2);
  poison(gradient);
  reference::swiglu_backward(context, gpt_oss, gate_up, dy, gradient);
  const auto loss = [&] {
    reference::swiglu_forward(context, gpt_oss, gate_up, y);
    return inner_product(dy, y);
  };
  EXPECT_LT(max_gradient_error(loss, gate_up, gradient), 1e-6);
}

// Row of gates 8, 7, -9, 0 and ups 0, 8, -8, 7.
TEST(Swiglu, GradientIsZeroBeyondALimitAndNotAtIt) {
  const HostTensor gate_up = make_tensor(DType::f32, {1, 8}, {8, 7, -9, 0, 0, 8, -8, 7});
  HostTensor gradient(DType::f32, {1, 8});
  reference::swiglu_backward(context, gpt_oss, gate_up, make_tensor(DType::f32, {1, 4}, {1, 1, 1, 1}), gradient);
  EXPECT_EQ(element(gradient, 0), 0) << "gate above";
  EXPECT_NEAR(element(gradient, 1), 8, 0.01) << "gate at the limit, up + 1 = 8";
  EXPECT_NE(element(gradient, 2), 0) << "gates have no lower limit";
  EXPECT_EQ(element(gradient, 3), 4) << "(7 + 1) / 2";
  EXPECT_NEAR(element(gradient, 4), 7, 0.01);
  EXPECT_EQ(element(gradient, 5), 0) << "up above";
  EXPECT_EQ(element(gradient, 6), 0) << "up below";
  EXPECT_EQ(element(gradient, 7), 0) << "gate 0";
}

TEST(Swiglu, FloatAgreesWithDoubleAlsoInPlace) {
  for (const SwigluOptions& options : {SwigluOptions{}, gpt_oss})
    for (const Extents& extents : {Extents{0, 3}, Extents{1, 1}, Extents{131, 131}, Extents{3, 515}}) {
      const std::int64_t rows = extents[0], width = extents[1];
      HostTensor single = random_tensor(DType::f32, {rows, 2 * width}, 1, 8),
                 exact = random_tensor(DType::f64, {rows, 2 * width}, 1, 8);
      HostTensor y(DType::f32, extents), exact_y(DType::f64, extents);
      reference::swiglu_forward(context, options, single, y);
      reference::swiglu_forward(context, options, exact, exact_y);
      EXPECT_LE(max_difference(y, exact_y), 1e-5);
      reference::swiglu_backward(context, options, single, random_tensor(DType::f32, extents, 2), single);
      reference::swiglu_backward(context, options, exact, random_tensor(DType::f64, extents, 2), exact);
      EXPECT_LE(max_difference(single, exact), 1e-5);
    }
}

TEST(Swiglu, SaturatesWithoutOverflow) {
  const HostTensor gate_up = make_tensor(DType::f32, {1, 6}, {-1e4, 1e4, -88, 1, 2, 1});
  const HostTensor dy = make_tensor(DType::f32, {1, 3}, {1, 1, 1});
  HostTensor y(DType::f32, {1, 3}), gradient(DType::f32, {1, 6});
  reference::swiglu_forward(context, {}, gate_up, y);
  EXPECT_EQ(element(y, 0), 0);
  EXPECT_EQ(element(y, 1), 2e4);
  EXPECT_NEAR(element(y, 2), 0, 1e-30);
  reference::swiglu_backward(context, {}, gate_up, dy, gradient);
  EXPECT_EQ(element(gradient, 0), 0);
  EXPECT_EQ(element(gradient, 1), 2);
  EXPECT_EQ(element(gradient, 4), 1e4);
}

}  // namespace
}  // namespace moesaic
