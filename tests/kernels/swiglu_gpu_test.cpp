#include "moesaic/kernels/swiglu.hpp"

#include "moesaic/kernels/elementwise.hpp"

#include "support/gpu.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

constexpr SwigluOptions gpt_oss{.alpha = 1.702, .limit = 7, .up_offset = 1};

class SwigluGpu : public GpuTest {
 protected:
  /// Forward and backward agree with the reference in double, in place and not, and a second run gives the same bits.
  void check(DType type, std::int64_t rows, std::int64_t width, const SwigluOptions& options) {
    SCOPED_TRACE(fmt::format("{} [{}, {}] alpha {}", name_of(type), rows, width, options.alpha));
    const HostTensor gate_up = random_tensor(type, {rows, 2 * width}, 1, 16);
    const HostTensor y_gradient = random_tensor(type, {rows, width}, 2);
    HostTensor y(DType::f64, {rows, width}), gradient(DType::f64, {rows, 2 * width});
    reference::swiglu_forward(on_host, options, converted(gate_up, DType::f64), y);
    reference::swiglu_backward(on_host, options, converted(gate_up, DType::f64), converted(y_gradient, DType::f64),
                               gradient);
    const Tensor in = to_device(gate_up), device_y_gradient = to_device(y_gradient);
    const Tensor first_y = poisoned(type, {rows, width}), second_y = poisoned(type, {rows, width});
    const Tensor device_gradient = poisoned(type, {rows, 2 * width});
    cuda::swiglu_forward(context, options, in, first_y);
    cuda::swiglu_forward(context, options, in, second_y);
    cuda::swiglu_backward(context, options, in, device_y_gradient, device_gradient);
    cuda::swiglu_backward(context, options, in, device_y_gradient, in);
    EXPECT_LT(relative_error(to_host(first_y), y), tolerance_of(type));
    EXPECT_LT(relative_error(to_host(device_gradient), gradient), tolerance_of(type));
    EXPECT_EQ(max_difference(to_host(first_y), to_host(second_y)), 0);
    EXPECT_EQ(max_difference(to_host(device_gradient), to_host(in)), 0);
  }
};

TEST_F(SwigluGpu, EverySizeAndType) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const SwigluOptions& options : {SwigluOptions(), gpt_oss}) {
      for (const std::int64_t rows : {0, 1, 131}) check(type, rows, 768, options);
      for (const std::int64_t width : {1, 4, 131}) check(type, 131, width, options);
    }
    check(type, 4099, 264, SwigluOptions());
  }
}

TEST_F(SwigluGpu, NotANumberIsSeen) {
  const Tensor y = poisoned(DType::f32, {1, 1});
  for (const std::vector<double>& values : {std::vector<double>{NAN, 1}, std::vector<double>{1, NAN}}) {
    cuda::fill(context, 0, y);
    cuda::swiglu_forward(context, gpt_oss, to_device(make_tensor(DType::f32, {1, 2}, values)), y);
    EXPECT_TRUE(std::isnan(element(to_host(y), 0)));
  }
}

}  // namespace
}  // namespace moesaic
