#include "moesaic/kernels/bias.hpp"

#include "support/gpu.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

/// Their sums do not cancel, so that an error relative to the sum means something where there is one column.
HostTensor positive(DType type, Extents extents, std::uint32_t seed) {
  HostTensor result = random_tensor(type, extents, seed);
  for (std::int64_t i = 0; i < extents.size(); ++i) set_element(result, i, std::abs(element(result, i)));
  return result;
}

class BiasGpu : public GpuTest {
 protected:
  /// `offsets` empty: one group of all rows.
  void check(DType type, std::int64_t num_rows, std::int64_t width, const std::vector<double>& offsets = {}) {
    SCOPED_TRACE(fmt::format("{} [{}, {}] {} offsets", name_of(type), num_rows, width, offsets.size()));
    const auto groups = std::max<std::int64_t>(1, static_cast<std::int64_t>(offsets.size()) - 1);
    const HostTensor starts = make_tensor(DType::i64, {static_cast<std::int64_t>(offsets.size())}, offsets);
    const HostTensor bias = random_tensor(type, {groups, width}, 1), rows = positive(type, {num_rows, width}, 2);
    HostTensor expected = converted(rows, DType::f64),
               expected_gradient = random_tensor(DType::f64, {groups, width}, 3);
    const ConstView host_offsets = offsets.empty() ? ConstView() : starts.view();
    reference::bias_gradient(on_host, expected, host_offsets, expected_gradient);
    reference::add_bias(on_host, converted(bias, DType::f64), host_offsets, expected);
    const Tensor device_starts = to_device(starts), device_bias = to_device(bias);
    const ConstView device_offsets = offsets.empty() ? ConstView() : ConstView(device_starts.view());
    const auto run = [&] {
      const Tensor out = to_device(rows), gradient = to_device(random_tensor(DType::f32, {groups, width}, 3));
      cuda::bias_gradient(context, out, device_offsets, gradient);
      cuda::add_bias(context, device_bias, device_offsets, out);
      return std::pair(to_host(out), to_host(gradient));
    };
    const auto [first, first_gradient] = run();
    const auto [second, second_gradient] = run();
    EXPECT_LT(relative_error(first, expected), tolerance_of(type));
    EXPECT_LT(relative_error(first_gradient, expected_gradient), 1e-5);
    EXPECT_EQ(max_difference(first, second), 0);
    EXPECT_EQ(max_difference(first_gradient, second_gradient), 0);
    EXPECT_EQ(arena->used(Label::workspace), 0);
  }
};

TEST_F(BiasGpu, EverySizeAndType) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const std::int64_t rows : {0, 1, 131, 4099}) check(type, rows, 512);
    for (const std::int64_t width : {1, 8, 131}) check(type, 131, width);
  }
}

/// With groups of no rows at the start, within and at the end, all rows in one group, and rows past the last group.
TEST_F(BiasGpu, Groups) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const std::int64_t width : {64, 33}) {
      check(type, 131, width, {0, 0, 50, 50, 51, 131, 131});
      check(type, 4099, width, {0, 0, 4099, 4099});
      check(type, 131, width, {0, 7, 100});
      check(type, 0, width, {0, 0, 0});
    }
  }
}

}  // namespace
}  // namespace moesaic
