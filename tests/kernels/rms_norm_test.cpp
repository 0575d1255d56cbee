#include "moesaic/kernels/rms_norm.hpp"

#include <gtest/gtest.h>
#include <omp.h>

#include "support/finite_difference.hpp"
#include "support/host_context.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

HostContext context;
constexpr double eps = 1e-6;

struct Norm {
  explicit Norm(DType type, Extents extents, std::uint32_t seed = 1)
      : x(random_tensor(type, extents, seed)), weight(random_tensor(type, {extents[extents.rank() - 1]}, seed + 1)),
        y(type, extents), inverse_rms(type, leading(extents)), dy(random_tensor(type, extents, seed + 2)),
        dx(type, extents), dw(type, {extents[extents.rank() - 1]}) {
    poison(y);
    poison(inverse_rms);
    poison(dx);
  }
  static Extents leading(const Extents& e) { return e.rank() == 2 ? Extents{e[0]} : Extents{e[0], e[1]}; }

  void forward() { reference::rms_norm_forward(context, x, weight, eps, y, inverse_rms); }
  void backward(double beta = 0) { reference::rms_norm_backward(context, x, weight, inverse_rms, dy, beta, dx, dw); }

  HostTensor x, weight, y, inverse_rms, dy, dx, dw;
};

TEST(RmsNorm, LiteralOfThreeFour) {
  const HostTensor x = make_tensor(DType::f64, {1, 2}, {3, 4}), weight = make_tensor(DType::f64, {2}, {1, 2});
  HostTensor y(DType::f64, {1, 2}), inverse_rms(DType::f64, {1});
  reference::rms_norm_forward(context, x, weight, 0, y, inverse_rms);
  EXPECT_NEAR(element(inverse_rms, 0), 1 / std::sqrt(12.5), 1e-15);
  EXPECT_NEAR(element(y, 0), 3 / std::sqrt(12.5), 1e-15);
  EXPECT_NEAR(element(y, 1), 8 / std::sqrt(12.5), 1e-15);
}

// (1, 1) + (2, 3) = (3, 4), and the norm as above.
TEST(RmsNorm, LiteralWithAResidual) {
  HostTensor x = make_tensor(DType::f64, {1, 2}, {1, 1}), y(DType::f64, {1, 2}), inverse_rms(DType::f64, {1});
  const HostTensor residual = make_tensor(DType::f64, {1, 2}, {2, 3}), weight = make_tensor(DType::f64, {2}, {1, 2});
  reference::rms_norm_residual_forward(context, residual, weight, 0, x, y, inverse_rms);
  EXPECT_EQ(elements(x), (std::vector<double>{3, 4}));
  EXPECT_EQ(elements(residual), (std::vector<double>{2, 3}));
  EXPECT_NEAR(element(y, 0), 3 / std::sqrt(12.5), 1e-15);
  EXPECT_NEAR(element(y, 1), 8 / std::sqrt(12.5), 1e-15);
  EXPECT_NEAR(element(inverse_rms, 0), 1 / std::sqrt(12.5), 1e-15);
}

TEST(RmsNorm, GradientsAreThoseOfFiniteDifferences) {
  Norm norm(DType::f64, {3, 2, 7});
  norm.forward();
  norm.backward();
  const auto loss = [&] {
    norm.forward();
    return inner_product(norm.dy, norm.y);
  };
  EXPECT_LT(max_gradient_error(loss, norm.x, norm.dx), 1e-6);
  EXPECT_LT(max_gradient_error(loss, norm.weight, norm.dw), 1e-6);
}

TEST(RmsNorm, FloatAgreesWithDoubleAtAllSizes) {
  for (const Extents& extents :
       {Extents{0, 4}, Extents{1, 1}, Extents{131, 131}, Extents{517, 33}, Extents{131, 3, 32}}) {
    Norm single(DType::f32, extents), exact(DType::f64, extents);
    for (Norm* norm : {&single, &exact}) {
      norm->forward();
      norm->backward();
    }
    EXPECT_LE(max_difference(single.y, exact.y), 4e-6);
    EXPECT_LE(max_difference(single.dx, exact.dx), 4e-5);
    EXPECT_LE(max_difference(single.dw, exact.dw), 1e-4);
  }
}

TEST(RmsNorm, BackwardAddsWhenAskedTo) {
  Norm norm(DType::f64, {5, 6});
  norm.forward();
  norm.backward();
  const HostTensor dx = norm.dx, dw = norm.dw;
  norm.backward(1);
  for (std::int64_t i = 0; i < 30; ++i) EXPECT_NEAR(element(norm.dx, i), 2 * element(dx, i), 1e-14);
  for (std::int64_t i = 0; i < 6; ++i) EXPECT_NEAR(element(norm.dw, i), 2 * element(dw, i), 1e-14);
}

TEST(RmsNorm, WorksInPlaceOnStridedRows) {
  Norm norm(DType::f64, {9, 2, 5});
  norm.forward();
  norm.backward();
  HostTensor wide(DType::f64, {9, 16}), wide_dy(DType::f64, {9, 16});
  const View x = wide.view().slice(1, 4, 14).split_last(2, 5), dy = wide_dy.view().slice(1, 0, 10).split_last(2, 5);
  assign(x, elements(norm.x));
  assign(dy, elements(norm.dy));
  HostTensor dw(DType::f64, {5}), inverse_rms(DType::f64, {9, 2});
  reference::rms_norm_backward(context, x, norm.weight, norm.inverse_rms, dy, 0, dy, dw);
  EXPECT_LT(max_difference(dy, norm.dx), 1e-15);
  EXPECT_LT(max_difference(dw, norm.dw), 1e-13);
  reference::rms_norm_forward(context, x, norm.weight, eps, x, inverse_rms);
  EXPECT_LT(max_difference(x, norm.y), 1e-15);
  EXPECT_EQ(element(wide, 3), 0);
  EXPECT_EQ(element(wide, 14), 0);
}

TEST(RmsNorm, BitsDoNotDependOnTheNumberOfThreads) {
  const int threads = omp_get_max_threads();
  Norm one(DType::f32, {1000, 128}), three(DType::f32, {1000, 128});
  omp_set_num_threads(1);
  one.forward();
  one.backward();
  omp_set_num_threads(3);
  three.forward();
  three.backward();
  omp_set_num_threads(threads);
  EXPECT_EQ(max_difference(one.dw, three.dw), 0);
  EXPECT_EQ(max_difference(one.dx, three.dx), 0);
}

}  // namespace
}  // namespace moesaic
