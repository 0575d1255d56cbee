#include "moesaic/kernels/rms_norm.hpp"

#include "moesaic/kernels/elementwise.hpp"
#include "support/gpu.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

constexpr double eps = 1e-6;

struct Results {
  HostTensor y, inverse_rms, x_gradient, weight_gradient;
};

class RmsNormGpu : public GpuTest {
 protected:
  /// Forward and backward agree with the reference in double, and a second run gives the same bits.
  void check(DType type, std::int64_t rows, std::int64_t width, double beta) {
    SCOPED_TRACE(fmt::format("{} [{}, {}] beta {}", name_of(type), rows, width, beta));
    const HostTensor x = random_tensor(type, {rows, width}, 1, 2), weight = random_tensor(type, {width}, 2);
    const HostTensor y_gradient = random_tensor(type, {rows, width}, 3);
    const HostTensor x_gradient = random_tensor(type, {rows, width}, 4);
    const Results expected = run_reference(x, weight, y_gradient, beta, x_gradient);
    const Results first = run(x, weight, y_gradient, beta, x_gradient);
    const Results second = run(x, weight, y_gradient, beta, x_gradient);
    EXPECT_LT(relative_error(first.y, expected.y), tolerance_of(type));
    EXPECT_LT(relative_error(first.inverse_rms, expected.inverse_rms), 1e-5);
    EXPECT_LT(relative_error(first.x_gradient, expected.x_gradient), tolerance_of(type));
    EXPECT_LT(relative_error(first.weight_gradient, expected.weight_gradient), 1e-5);
    EXPECT_EQ(max_difference(first.y, second.y), 0);
    EXPECT_EQ(max_difference(first.x_gradient, second.x_gradient), 0);
    EXPECT_EQ(max_difference(first.weight_gradient, second.weight_gradient), 0);
    EXPECT_EQ(arena->used(Label::workspace), 0);
  }

  /// One pass gives the bits of the sum, and the norm of that sum as the two plain operators do.
  void check_residual(DType type, std::int64_t rows, std::int64_t width) {
    SCOPED_TRACE(fmt::format("{} [{}, {}] with a residual", name_of(type), rows, width));
    const HostTensor x = random_tensor(type, {rows, width}, 1, 2), residual = random_tensor(type, {rows, width}, 2);
    const Tensor weight = to_device(random_tensor(type, {width}, 3)), added = to_device(residual);
    const Tensor sum = to_device(x), y = poisoned(type, {rows, width}), inverse_rms = poisoned(DType::f32, {rows});
    cuda::rms_norm_residual_forward(context, added, weight, eps, sum, y, inverse_rms);
    const Tensor plain_sum = to_device(x), plain_y = poisoned(type, {rows, width});
    const Tensor plain_inverse_rms = poisoned(DType::f32, {rows});
    cuda::accumulate(context, added, plain_sum);
    cuda::rms_norm_forward(context, plain_sum, weight, eps, plain_y, plain_inverse_rms);
    HostTensor expected(DType::f64, {rows, width}), expected_rms(DType::f64, {rows});
    HostTensor expected_sum = converted(to_host(plain_sum), DType::f64);
    reference::rms_norm_forward(on_host, expected_sum, converted(to_host(weight), DType::f64), eps, expected,
                                expected_rms);
    EXPECT_EQ(max_difference(to_host(sum), to_host(plain_sum)), 0);
    EXPECT_LT(relative_error(to_host(y), expected), tolerance_of(type));
    EXPECT_LT(relative_error(to_host(y), to_host(plain_y)), tolerance_of(type));
    EXPECT_LT(relative_error(to_host(inverse_rms), expected_rms), 1e-5);
    EXPECT_EQ(max_difference(to_host(added), residual), 0);
  }

  /// What the weight's gradient is added to.
  static HostTensor earlier(DType type, std::int64_t width) { return random_tensor(type, {width}, 5); }

  Results run_reference(ConstView x, ConstView weight, ConstView y_gradient, double beta, ConstView x_gradient) {
    const HostTensor x64 = converted(x, DType::f64), weight64 = converted(weight, DType::f64);
    Results r{HostTensor(DType::f64, x.extents()), HostTensor(DType::f64, {x.extent(0)}),
              converted(x_gradient, DType::f64), earlier(DType::f64, x.extent(1))};
    reference::rms_norm_forward(on_host, x64, weight64, eps, r.y, r.inverse_rms);
    reference::rms_norm_backward(on_host, x64, weight64, r.inverse_rms, converted(y_gradient, DType::f64), beta,
                                 r.x_gradient, r.weight_gradient);
    return r;
  }

  Results run(ConstView x, ConstView weight, ConstView y_gradient, double beta, ConstView x_gradient) {
    const Tensor device_x = to_device(x), device_weight = to_device(weight), device_y_gradient = to_device(y_gradient);
    const Tensor y = poisoned(x.dtype(), x.extents()), inverse_rms = poisoned(DType::f32, {x.extent(0)});
    const Tensor device_x_gradient = beta == 0 ? poisoned(x.dtype(), x.extents()) : to_device(x_gradient);
    const Tensor weight_gradient = to_device(earlier(DType::f32, x.extent(1)));
    cuda::rms_norm_forward(context, device_x, device_weight, eps, y, inverse_rms);
    cuda::rms_norm_backward(context, device_x, device_weight, inverse_rms, device_y_gradient, beta, device_x_gradient,
                            weight_gradient);
    return {to_host(y), to_host(inverse_rms), to_host(device_x_gradient), to_host(weight_gradient)};
  }
};

TEST_F(RmsNormGpu, EverySizeAndType) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const std::int64_t rows : {0, 1, 131, 20481}) {
      for (const std::int64_t width : {64, 128, 131}) check(type, rows, width, 0);
    }
    for (const std::int64_t width : {768, 2048, 4099, 7168}) check(type, 131, width, 0);
  }
}

/// Rows of one element too, whose own gradient all but vanishes.
TEST_F(RmsNormGpu, AddsToTheGradientOfTheInput) {
  for (const DType type : {DType::f32, DType::bf16}) {
    check(type, 131, 1, 1);
    check(type, 131, 131, 1);
    check(type, 33, 2048, 1);
  }
}

/// Widths of every number of vectors that a thread keeps, and one too wide for that.
TEST_F(RmsNormGpu, KeepsRowsOfEveryWidth) {
  for (const DType type : {DType::f32, DType::bf16}) {
    const std::int64_t vector = 16 / size_of(type);
    for (const std::int64_t vectors : {1, 3, 17, 64, 65, 256, 257, 512, 513, 1025, 2048, 2049}) {
      check(type, 67, vectors * vector, 1);
      check_residual(type, 67, vectors * vector);
    }
    check(type, 20481, 64, 1);
    check(type, 5003, 2048, 1);
  }
}

TEST_F(RmsNormGpu, ResidualOfEverySizeAndType) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const std::int64_t rows : {0, 1, 131, 4099}) {
      for (const std::int64_t width : {64, 131, 2048}) check_residual(type, rows, width);
    }
  }
}

/// Heads that lie within wider rows, as in a fused projection of queries, keys and values.
TEST_F(RmsNormGpu, StridedHeads) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const std::int64_t head : {64, 128, 33}) {
      const HostTensor rows = random_tensor(type, {131, 5 * head}, 1, 2), weight = random_tensor(type, {head}, 2);
      const auto heads = [&](auto view) { return view.slice(1, head, 4 * head).split_last(3, head); };
      const Tensor device_rows = to_device(rows), inverse_rms = poisoned(DType::f32, {131, 3});
      cuda::rms_norm_forward(context, heads(device_rows.view()), to_device(weight), eps, heads(device_rows.view()),
                             inverse_rms);
      HostTensor expected = converted(rows, DType::f64), expected_rms(DType::f64, {131, 3});
      reference::rms_norm_forward(on_host, heads(expected.view()), converted(weight, DType::f64), eps,
                                  heads(expected.view()), expected_rms);
      // In place: what lies beside the heads must be as it was, which the comparison of whole rows shows.
      EXPECT_LT(relative_error(to_host(device_rows), expected), tolerance_of(type)) << name_of(type) << head;
      EXPECT_LT(relative_error(to_host(inverse_rms), expected_rms), 1e-5);
    }
  }
}

TEST_F(RmsNormGpu, GradientMayOverwriteTheOutputGradient) {
  const HostTensor x = random_tensor(DType::f32, {131, 256}, 1), weight = random_tensor(DType::f32, {256}, 2);
  const HostTensor y_gradient = random_tensor(DType::f32, {131, 256}, 3);
  const Results apart = run(x, weight, y_gradient, 0, y_gradient);
  const Tensor gradient = to_device(y_gradient), weight_gradient = to_device(earlier(DType::f32, 256));
  cuda::rms_norm_backward(context, to_device(x), to_device(weight), to_device(apart.inverse_rms), gradient, 0, gradient,
                          weight_gradient);
  EXPECT_EQ(max_difference(to_host(gradient), apart.x_gradient), 0);
  EXPECT_EQ(max_difference(to_host(weight_gradient), apart.weight_gradient), 0);
}

}  // namespace
}  // namespace moesaic
