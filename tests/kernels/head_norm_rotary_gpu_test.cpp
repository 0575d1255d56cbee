#include "moesaic/kernels/head_norm_rotary.hpp"

#include "moesaic/kernels/rms_norm.hpp"
#include "moesaic/kernels/rotary.hpp"
#include "support/gpu.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

constexpr double eps = 1e-6;

struct Results {
  HostTensor y, inverse_rms, gradient, weight_gradient;
};

/// Three of the five heads that each row holds: what lies beside them must stay as it is.
template <class View> View heads_of(const View& rows) {
  const std::int64_t width = rows.extent(1) / 5;
  return rows.slice(1, width, 4 * width).split_last(3, width);
}

class HeadNormRotaryGpu : public GpuTest {
 protected:
  /// Forward (in place) and backward agree with the reference in double and with the two plain operators, and a second
  /// run gives the same bits. The first 2 * half elements turn.
  void check(DType type, std::int64_t tokens, std::int64_t width, std::int64_t half) {
    SCOPED_TRACE(fmt::format("{} {} tokens, width {}, half {}", name_of(type), tokens, width, half));
    rows = random_tensor(type, {tokens, 5 * width}, 1, 2), rows_gradient = random_tensor(type, {tokens, 5 * width}, 2);
    weight = random_tensor(type, {width}, 3), weight_gradient = random_tensor(DType::f32, {width}, 4);
    cosine = random_tensor(DType::f32, {50, half}, 5), sine = random_tensor(DType::f32, {50, half}, 6);
    positions = HostTensor(DType::i32, {tokens});
    fill_random_integers(positions, 7, 0, 49);
    const Results expected = run_reference(), first = run(true), second = run(true), plain = run(false);
    compare(first, expected, tolerance_of(type));
    compare(plain, first, 2 * tolerance_of(type));
    compare(second, first, 1e-300);
    EXPECT_EQ(arena->used(Label::workspace), 0);
  }

 private:
  static void compare(const Results& actual, const Results& expected, double tolerance) {
    EXPECT_LT(relative_error(actual.y, expected.y), tolerance);
    EXPECT_LT(relative_error(actual.inverse_rms, expected.inverse_rms), std::min(tolerance, 1e-5));
    EXPECT_LT(relative_error(actual.gradient, expected.gradient), tolerance);
    EXPECT_LT(relative_error(actual.weight_gradient, expected.weight_gradient), std::min(tolerance, weight_tolerance));
  }

  Results run_reference() {
    const std::int64_t tokens = rows.view().extent(0);
    const HostTensor x = converted(rows, DType::f64), w = converted(weight, DType::f64);
    const HostTensor c = converted(cosine, DType::f64), s = converted(sine, DType::f64);
    Results r{converted(rows, DType::f64), HostTensor(DType::f64, {tokens, 3}), converted(rows_gradient, DType::f64),
              converted(weight_gradient, DType::f64)};
    reference::head_norm_rotary_forward(on_host, heads_of(x.view()), w, eps, c, s, positions, heads_of(r.y.view()),
                                        r.inverse_rms);
    reference::head_norm_rotary_backward(on_host, heads_of(x.view()), w, r.inverse_rms, c, s, positions,
                                         heads_of(r.gradient.view()), r.weight_gradient);
    return r;
  }

  Results run(bool fused) {
    const Tensor x = to_device(rows), y = to_device(rows), w = to_device(weight), c = to_device(cosine);
    const Tensor s = to_device(sine), p = to_device(positions), gradient = to_device(rows_gradient);
    const Tensor sums = to_device(weight_gradient), inverse_rms = poisoned(DType::f32, {x.view().extent(0), 3});
    const View of_x = heads_of(x.view()), of_y = heads_of(y.view()), of_gradient = heads_of(gradient.view());
    if (fused) {
      cuda::head_norm_rotary_forward(context, of_y, w, eps, c, s, p, of_y, inverse_rms);
      cuda::head_norm_rotary_backward(context, of_x, w, inverse_rms, c, s, p, of_gradient, sums);
    } else {
      const std::int64_t turned = 2 * cosine.view().extent(1);
      cuda::rms_norm_forward(context, of_x, w, eps, of_y, inverse_rms);
      cuda::rotary(context, of_y.slice(2, 0, turned), c, s, p, RotaryPairs::halves, RotaryDirection::forward);
      cuda::rotary(context, of_gradient.slice(2, 0, turned), c, s, p, RotaryPairs::halves, RotaryDirection::backward);
      cuda::rms_norm_backward(context, of_x, w, inverse_rms, of_gradient, 0, of_gradient, sums);
    }
    return {to_host(y), to_host(inverse_rms), to_host(gradient), to_host(sums)};
  }

  HostTensor rows{DType::f32, {0}}, rows_gradient{DType::f32, {0}}, weight{DType::f32, {0}};
  HostTensor weight_gradient{DType::f32, {0}}, cosine{DType::f32, {0}}, sine{DType::f32, {0}};
  HostTensor positions{DType::i32, {0}};
  /// The plain operators round between the rotation and the norm's gradients.
  static constexpr double weight_tolerance = 5e-3;
};

TEST_F(HeadNormRotaryGpu, EverySizeAndType) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const std::int64_t tokens : {0, 1, 131, 9001}) check(type, tokens, 128, 64);
    for (const std::int64_t width : {2, 6, 64, 192, 256, 512}) check(type, 131, width, width / 2);
  }
}

TEST_F(HeadNormRotaryGpu, HeadsOfWhichAPartTurns) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const std::int64_t half : {32, 16, 5, 1}) check(type, 131, 128, half);
    check(type, 131, 6, 1);
  }
}

}  // namespace
}  // namespace moesaic
