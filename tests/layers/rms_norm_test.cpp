#include "moesaic/layers/rms_norm.hpp"

#include <cmath>

#include "layers/layer_fixture.hpp"

namespace moesaic {
namespace {

// x = (3, 4): mean square 12.5, r = 1 / sqrt(12.5).
struct Literal {
  LayerFixture fixture;
  RmsNorm norm{0};
  HostTensor x = make_tensor(DType::f64, {1, 2}, {3, 4}), weight = make_tensor(DType::f64, {2}, {1, 2});
  HostTensor y{DType::f64, {1, 2}};
  double r = 1 / std::sqrt(12.5);
};

TEST(RmsNorm, Literal) {
  Literal one;
  RmsNormState state;
  one.norm.forward(one.fixture.ctx, one.weight, one.x, one.y, state);
  EXPECT_NEAR(element(one.y, 0), 3 * one.r, 1e-15);
  EXPECT_NEAR(element(one.y, 1), 8 * one.r, 1e-15);
  EXPECT_EQ(state.inverse_rms.view().extents(), (Extents{1}));
  EXPECT_NEAR(element(state.inverse_rms, 0), one.r, 1e-15);
}

// (1, 1) + (2, 3).
TEST(RmsNorm, LiteralWithAResidual) {
  Literal one;
  RmsNormState state;
  HostTensor x = make_tensor(DType::f64, {1, 2}, {1, 1}), residual = make_tensor(DType::f64, {1, 2}, {2, 3});
  one.norm.forward_residual(one.fixture.ctx, one.weight, residual, x, one.y, state);
  EXPECT_EQ(elements(x), (std::vector<double>{3, 4}));
  EXPECT_NEAR(element(one.y, 1), 8 * one.r, 1e-15);
  EXPECT_NEAR(element(state.inverse_rms, 0), one.r, 1e-15);
}

// The weight's gradient (3 r, 4 r) of gradient (1, 1) waits in the state, and is then added to what is there.
TEST(RmsNorm, TheWeightGradientWaits) {
  Literal one;
  RmsNormState state;
  one.norm.forward(one.fixture.ctx, one.weight, one.x, one.y, state);
  HostTensor gradient = make_tensor(DType::f64, {1, 2}, {1, 1});
  one.norm.backward_input(one.fixture.ctx, one.weight, one.x, gradient, 0, gradient, state);  // in place
  EXPECT_TRUE(state.inverse_rms.absent());
  poison(gradient);
  HostTensor weight_gradient = make_tensor(DType::f64, {2}, {5, -5});
  one.norm.backward_weight(one.fixture.ctx, state, weight_gradient);
  EXPECT_NEAR(element(weight_gradient, 0), 5 + 3 * one.r, 1e-14);
  EXPECT_NEAR(element(weight_gradient, 1), -5 + 4 * one.r, 1e-14);
  one.fixture.expect_memory_returned();
}

/// Rows, or heads that lie between other columns of a wider row; loss = <direction, norm(x)>.
void expect_gradients(View x, const HostTensor& direction) {
  LayerFixture fixture;
  const RmsNorm norm(1e-3);
  TestParameters weight({{"norm", {x.extent(x.rank() - 1)}, Initialisation::ones, false}}, DType::f64, 1);
  HostTensor y(DType::f64, x.extents());
  RmsNormState state;
  const auto loss = [&] {
    norm.forward(fixture.ctx, weight.weights()[0], x, y, state);
    return inner_product(direction, y);
  };

  loss();
  HostTensor x_gradient = make_tensor(DType::f64, x.extents(), std::vector<double>(x.size(), 0.5));  // beta 1 adds
  norm.backward_input(fixture.ctx, weight.weights()[0], x, direction, 1, x_gradient, state);
  norm.backward_weight(fixture.ctx, state, weight.gradients()[0]);
  for (std::int64_t i = 0; i < x.size(); ++i) set_element(x_gradient, i, element(x_gradient, i) - 0.5);
  EXPECT_LT(max_gradient_error(loss, x, x_gradient), 1e-6);
  weight.expect_gradients(loss);
}

TEST(RmsNorm, GradientsOfRows) {
  HostTensor x = random_tensor(DType::f64, {7, 5}, 2);
  expect_gradients(x, random_tensor(DType::f64, {7, 5}, 3));
}

TEST(RmsNorm, GradientsOfHeadsWithinARow) {
  HostTensor rows = random_tensor(DType::f64, {4, 15}, 4);
  expect_gradients(rows.view().slice(1, 3, 12).split_last(3, 3), random_tensor(DType::f64, {4, 3, 3}, 5));
}

}  // namespace
}  // namespace moesaic
