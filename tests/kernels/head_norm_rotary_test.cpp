#include "moesaic/kernels/head_norm_rotary.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "support/finite_difference.hpp"
#include "support/host_context.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

HostContext context;

// x = (3, 4, 0, 5): mean square 12.5, x r w = (3, 8, 0, 0) r. Position 1 turns the pair (0, 1) by a quarter, (a, b) to
// (-b, a); the other two elements stay.
TEST(HeadNormRotary, LiteralOfAQuarterTurn) {
  const HostTensor x = make_tensor(DType::f64, {1, 1, 4}, {3, 4, 0, 5}),
                   weight = make_tensor(DType::f64, {4}, {1, 2, 1, 0});
  const HostTensor cosine = make_tensor(DType::f64, {2, 1}, {1, 0}), sine = make_tensor(DType::f64, {2, 1}, {0, 1});
  const HostTensor positions = make_tensor(DType::i32, {1}, {1});
  HostTensor y(DType::f64, {1, 1, 4}), inverse_rms(DType::f64, {1, 1});
  reference::head_norm_rotary_forward(context, x, weight, 0, cosine, sine, positions, y, inverse_rms);
  const double r = 1 / std::sqrt(12.5);
  EXPECT_NEAR(element(inverse_rms, 0), r, 1e-15);
  const std::vector<double> expected{-8 * r, 3 * r, 0, 0};
  for (std::int64_t i = 0; i < 4; ++i) EXPECT_NEAR(element(y, i), expected[static_cast<std::size_t>(i)], 1e-15) << i;
}

/// Heads 1 to 3 of rows of five heads, of which all or a part turns.
class HeadNormRotaryOfWidth : public ::testing::TestWithParam<std::int64_t> {};

TEST_P(HeadNormRotaryOfWidth, GradientsAreThoseOfFiniteDifferences) {
  const std::int64_t width = 6, half = GetParam() / 2;
  HostTensor rows = random_tensor(DType::f64, {4, 5 * width}, 1), weight = random_tensor(DType::f64, {width}, 2);
  const View x = rows.view().slice(1, width, 4 * width).split_last(3, width);
  const HostTensor angles = random_tensor(DType::f64, {5, half}, 3),
                   positions = make_tensor(DType::i32, {4}, {4, 0, 2, 2});
  HostTensor cosine(DType::f64, {5, half}), sine(DType::f64, {5, half});
  for (std::int64_t i = 0; i < angles.view().size(); ++i) {
    set_element(cosine, i, std::cos(element(angles, i)));
    set_element(sine, i, std::sin(element(angles, i)));
  }
  HostTensor y(DType::f64, {4, 3, width}), inverse_rms(DType::f64, {4, 3});
  const HostTensor direction = random_tensor(DType::f64, {4, 3, width}, 4);
  const auto loss = [&] {
    reference::head_norm_rotary_forward(context, x, weight, 1e-3, cosine, sine, positions, y, inverse_rms);
    return inner_product(direction, y);
  };
  loss();
  HostTensor gradient = direction, weight_gradient = make_tensor(DType::f64, {width}, std::vector<double>(6, 0.5));
  reference::head_norm_rotary_backward(context, x, weight, inverse_rms, cosine, sine, positions, gradient,
                                       weight_gradient);
  for (std::int64_t i = 0; i < width; ++i) set_element(weight_gradient, i, element(weight_gradient, i) - 0.5);
  EXPECT_LT(max_gradient_error(loss, x, gradient), 1e-6);
  EXPECT_LT(max_gradient_error(loss, weight, weight_gradient), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Turned, HeadNormRotaryOfWidth, ::testing::Values(6, 4, 0));

}  // namespace
}  // namespace moesaic
