#include "moesaic/kernels/attention_sink.hpp"

#include "moesaic/kernels/attention_merge.hpp"
#include "support/gpu.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

constexpr std::int64_t heads = 5;
constexpr double nothing = -std::numeric_limits<double>::infinity();

/// Sums of exponentials of [batch, heads, queries], of which every fourth is of no keys at all.
HostTensor log_sums(DType type, std::int64_t batch, std::int64_t queries, std::uint32_t seed) {
  HostTensor result = random_tensor(type, {batch, heads, queries}, seed, 2);
  for (std::int64_t i = seed; i < result.view().size(); i += 4) set_element(result, i, nothing);
  return result;
}

/// Outputs [batch, queries, heads, width], zero where their sum is of no keys, as attention leaves them.
HostTensor outputs(DType type, ConstView sums, std::int64_t width, std::uint32_t seed) {
  const std::int64_t batch = sums.extent(0), queries = sums.extent(2);
  HostTensor result = random_tensor(type, {batch, queries, heads, width}, seed);
  for (std::int64_t i = 0; i < sums.size(); ++i) {
    const std::int64_t b = i / queries / heads, a = i / queries % heads, s = i % queries;
    if (element(sums, i) != nothing) continue;
    for (std::int64_t c = 0; c < width; ++c) set_element(result, ((b * queries + s) * heads + a) * width + c, 0);
  }
  return result;
}

/// max_difference with equal infinities counted as equal.
void expect_log_sums(ConstView found, ConstView expected) {
  for (std::int64_t i = 0; i < expected.size(); ++i) {
    if (element(expected, i) == nothing)
      EXPECT_EQ(element(found, i), nothing);
    else
      EXPECT_NEAR(element(found, i), element(expected, i), 1e-5);
  }
}

class AttentionSinkGpu : public GpuTest {
 protected:
  void check_sink(DType type, std::int64_t batch, std::int64_t queries, std::int64_t width) {
    SCOPED_TRACE(fmt::format("{} [{}, {}, {}]", name_of(type), batch, queries, width));
    const HostTensor sums = log_sums(DType::f32, batch, queries, 1), out = outputs(type, sums, width, 2);
    const HostTensor sinks = random_tensor(type, {heads}, 3, 2),
                     out_gradient = random_tensor(type, {batch, queries, heads, width}, 4);
    HostTensor expected = converted(out, DType::f64), expected_sums = converted(sums, DType::f64);
    reference::attention_sink(on_host, converted(sinks, DType::f64), expected, expected_sums);
    const Tensor device_out = to_device(out), device_sums = to_device(sums), device_sinks = to_device(sinks);
    cuda::attention_sink(context, device_sinks, device_out, device_sums);
    EXPECT_LT(relative_error(to_host(device_out), expected), tolerance_of(type));
    expect_log_sums(to_host(device_sums), expected_sums);
    // Both get the device's outputs, rounded as they are.
    HostTensor expected_gradient = random_tensor(DType::f64, {heads}, 5);
    reference::attention_sink_backward(
        on_host, converted(sinks, DType::f64), converted(to_host(device_out), DType::f64),
        converted(to_host(device_sums), DType::f64), converted(out_gradient, DType::f64), expected_gradient);
    const auto run = [&] {
      const Tensor gradient = to_device(random_tensor(DType::f32, {heads}, 5));
      cuda::attention_sink_backward(context, device_sinks, device_out, device_sums, to_device(out_gradient), gradient);
      return to_host(gradient);
    };
    const HostTensor first = run(), second = run();
    EXPECT_LT(relative_error(first, expected_gradient), 1e-5);
    EXPECT_EQ(max_difference(first, second), 0);
  }

  void check_merge(DType type, std::int64_t batch, std::int64_t queries, std::int64_t width) {
    SCOPED_TRACE(fmt::format("{} [{}, {}, {}]", name_of(type), batch, queries, width));
    const HostTensor sums = log_sums(DType::f32, batch, queries, 1),
                     more_sums = log_sums(DType::f32, batch, queries, 2);
    const HostTensor more = outputs(type, more_sums, width, 3);
    HostTensor out = outputs(DType::f32, sums, width, 4);
    HostTensor expected = converted(out, DType::f64), expected_sums = converted(sums, DType::f64);
    reference::attention_merge(on_host, converted(more, DType::f64), converted(more_sums, DType::f64), expected,
                               expected_sums);
    for (std::int64_t i = 0; i < sums.view().size(); ++i) {  // What was no sum yet may hold anything.
      const std::int64_t b = i / queries / heads, a = i / queries % heads, s = i % queries;
      if (element(sums, i) == nothing) set_element(out, ((b * queries + s) * heads + a) * width, NAN);
    }
    const Tensor device_out = to_device(out), device_sums = to_device(sums);
    cuda::attention_merge(context, to_device(more), to_device(more_sums), device_out, device_sums);
    EXPECT_LT(relative_error(to_host(device_out), expected), 1e-5);
    expect_log_sums(to_host(device_sums), expected_sums);
  }
};

TEST_F(AttentionSinkGpu, EverySizeAndType) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const std::int64_t queries : {0, 1, 131, 2053}) check_sink(type, 2, queries, 64);
    for (const std::int64_t width : {1, 33, 128}) check_sink(type, 1, 131, width);
  }
}

TEST_F(AttentionSinkGpu, Merge) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const std::int64_t queries : {0, 1, 131}) check_merge(type, 2, queries, 64);
    for (const std::int64_t width : {1, 33, 128}) check_merge(type, 1, 131, width);
  }
}

}  // namespace
}  // namespace moesaic
