#include "moesaic/kernels/cross_entropy.hpp"

#include "support/gpu.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

class CrossEntropyGpu : public GpuTest {
 protected:
  void check(DType type, std::int64_t tokens, std::int64_t vocabulary, double scale = 8) {
    SCOPED_TRACE(fmt::format("{} [{}, {}]", name_of(type), tokens, vocabulary));
    const HostTensor logits = random_tensor(type, {tokens, vocabulary}, 1, scale);
    HostTensor labels(DType::i32, {tokens});
    fill_random_integers(labels, 2, -1, vocabulary - 1);
    HostTensor expected = converted(logits, DType::f64), losses(DType::f64, {tokens}),
               log_sum_exp(DType::f64, {tokens});
    reference::cross_entropy_forward(on_host, expected, labels, losses, log_sum_exp);
    reference::cross_entropy_backward(on_host, expected, labels, log_sum_exp, 0.125);
    const auto run = [&] {
      const Tensor x = to_device(logits), device_labels = to_device(labels);
      const Tensor device_losses = poisoned(DType::f32, {tokens}), sums = poisoned(DType::f32, {tokens});
      cuda::cross_entropy_forward(context, x, device_labels, device_losses, sums);
      cuda::cross_entropy_backward(context, x, device_labels, sums, 0.125);
      return std::array{to_host(x), to_host(device_losses), to_host(sums)};
    };
    const auto first = run(), second = run();
    EXPECT_LT(relative_error(first[0], expected), tolerance_of(type));
    EXPECT_LT(relative_error(first[1], losses), 1e-5);
    EXPECT_LT(relative_error(first[2], log_sum_exp), 1e-5);
    for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(max_difference(first[i], second[i]), 0);
  }
};

TEST_F(CrossEntropyGpu, EverySizeAndType) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const std::int64_t tokens : {0, 1, 131, 2053}) check(type, tokens, 512);
    for (const std::int64_t vocabulary : {1, 131, 16384, 50257}) check(type, 17, vocabulary);
    check(type, 131, 512, 128);  // exp overflows
  }
}

}  // namespace
}  // namespace moesaic
