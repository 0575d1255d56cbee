#include "moesaic/kernels/adamw.hpp"
#include "moesaic/kernels/elementwise.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "support/host_context.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

HostContext context;

TEST(Adamw, LiteralOfTheFirstStep) {
  // The first update moves by lr against the gradient's sign, whatever its size; decay takes lr * 0.5 of the parameter.
  const HostTensor gradient = make_tensor(DType::f64, {3}, {4, -0.5, 0});
  HostTensor p = make_tensor(DType::f64, {3}, {1, 1, 1}), m(DType::f64, {3}), v(DType::f64, {3});
  const AdamwStep step{.lr = 0.1, .beta1 = 0.5, .beta2 = 0.75, .eps = 0, .weight_decay = 0.5, .gradient_scale = 0.5};
  AdamwStep with_eps = step;
  with_eps.eps = 1e-300;  // 0 / 0 where the gradient is zero otherwise
  reference::adamw(context, with_eps, gradient, p, m, v, View());
  EXPECT_NEAR(element(p, 0), 0.95 - 0.1, 1e-15);
  EXPECT_NEAR(element(p, 1), 0.95 + 0.1, 1e-15);
  EXPECT_NEAR(element(p, 2), 0.95, 1e-15);
  EXPECT_EQ(elements(m), (std::vector<double>{1, -0.125, 0}));
  EXPECT_EQ(elements(v), (std::vector<double>{1, 0.015625, 0}));
}

/// Ten steps by the formula of the paper, one parameter at a time.
double after_ten_steps(double p, double gradient, const AdamwStep& options) {
  double m = 0, v = 0;
  for (int t = 1; t <= 10; ++t) {
    const double g = options.gradient_scale * gradient / t;
    p *= 1 - options.lr * options.weight_decay;
    m = options.beta1 * m + (1 - options.beta1) * g;
    v = options.beta2 * v + (1 - options.beta2) * g * g;
    p -= options.lr * (m / (1 - std::pow(options.beta1, t))) /
         (std::sqrt(v / (1 - std::pow(options.beta2, t))) + options.eps);
  }
  return p;
}

struct State {
  State(DType type, DType moments, std::int64_t size)
      : p(random_tensor(type, {size}, 1)), gradient(random_tensor(type, {size}, 2)), m(moments, {size}),
        v(moments, {size}) {}
  void ten_steps(AdamwStep options) {
    for (options.step = 1; options.step <= 10; ++options.step) {
      HostTensor scaled = gradient;
      for (std::int64_t i = 0; i < scaled.view().size(); ++i)
        set_element(scaled, i, element(gradient, i) / static_cast<double>(options.step));
      reference::adamw(context, options, scaled, p, m, v, View());
    }
  }
  HostTensor p, gradient, m, v;
};

TEST(Adamw, TenStepsFollowTheFormula) {
  const AdamwStep options{
      .lr = 0.01, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .gradient_scale = 0.3};
  for (const std::int64_t size : {0, 1, 131, 40001}) {
    const State start(DType::f64, DType::f64, size);
    State exact = start, single(DType::f32, DType::f32, size), mixed(DType::f32, DType::bf16, size);
    exact.ten_steps(options);
    single.ten_steps(options);
    mixed.ten_steps(options);
    for (std::int64_t i = 0; i < size; ++i)
      ASSERT_NEAR(element(exact.p, i), after_ten_steps(element(start.p, i), element(start.gradient, i), options),
                  1e-12);
    EXPECT_LT(max_difference(single.p, exact.p), 1e-6);
    EXPECT_LT(max_difference(mixed.p, exact.p), 2e-3) << "moments of 8 bits";
  }
}

TEST(Adamw, TheCopyIsTheNewParametersRounded) {
  State state(DType::f32, DType::f32, 131);
  HostTensor copy(DType::bf16, {131}), expected(DType::bf16, {131});
  reference::adamw(context, {.lr = 0.5}, state.gradient, state.p, state.m, state.v, copy);
  reference::copy(context, state.p, expected);
  EXPECT_EQ(elements(copy), elements(expected));
}

}  // namespace
}  // namespace moesaic
