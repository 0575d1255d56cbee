#include "moesaic/kernels/elementwise.hpp"

#include "support/gpu.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

constexpr DType floating[] = {DType::f32, DType::bf16, DType::f64};
constexpr std::int64_t sizes[] = {0, 1, 3, 131, 100003};

HostTensor counts(std::int64_t size, std::uint32_t seed) {
  HostTensor result(DType::i64, {size});
  fill_random_integers(result, seed, -5, 1 << 30);
  return result;
}

class ElementwiseGpu : public GpuTest {};

TEST_F(ElementwiseGpu, Fills) {
  for (const DType type : {DType::f32, DType::bf16, DType::f64, DType::i64}) {
    for (const std::int64_t size : sizes) {
      const Tensor values = poisoned(type, {size + 2});
      cuda::fill(context, 2, values.view().rows(1, size + 1));
      const HostTensor result = to_host(values);
      for (std::int64_t i = 1; i <= size; ++i) ASSERT_EQ(element(result, i), 2) << name_of(type) << i;
      const double before = element(to_host(poisoned(type, {1})), 0);
      for (const std::int64_t i : {std::int64_t{0}, size + 1}) {
        EXPECT_TRUE(std::isnan(element(result, i)) || element(result, i) == before) << "beside nothing is written";
      }
    }
  }
  const Tensor lowest = poisoned(DType::f32, {5});
  cuda::fill(context, -std::numeric_limits<double>::infinity(), lowest);
  EXPECT_EQ(element(to_host(lowest), 4), -std::numeric_limits<double>::infinity());
}

/// Rounding is the reference's to the bit, in every pair of types.
TEST_F(ElementwiseGpu, CopiesBetweenTypes) {
  for (const DType in_type : floating) {
    for (const DType out_type : floating) {
      for (const std::int64_t size : sizes) {
        const HostTensor in = random_tensor(in_type, {size}, 1, 3);
        HostTensor expected(out_type, {size});
        reference::copy(on_host, in, expected);
        const Tensor out = poisoned(out_type, {size});
        cuda::copy(context, to_device(in), out);
        EXPECT_EQ(max_difference(to_host(out), expected), 0) << name_of(in_type) << name_of(out_type) << size;
      }
    }
  }
}

TEST_F(ElementwiseGpu, AccumulatesBetweenTypes) {
  for (const DType in_type : floating) {
    for (const DType out_type : floating) {
      for (const std::int64_t size : sizes) {
        const HostTensor in = random_tensor(in_type, {size}, 1, 3);
        HostTensor expected = random_tensor(out_type, {size}, 2);
        const Tensor out = to_device(expected);
        reference::accumulate(on_host, in, expected);
        cuda::accumulate(context, to_device(in), out);
        EXPECT_EQ(max_difference(to_host(out), expected), 0) << name_of(in_type) << name_of(out_type) << size;
      }
    }
  }
}

TEST_F(ElementwiseGpu, AccumulatesCounts) {
  for (const std::int64_t size : sizes) {
    HostTensor expected = counts(size, 1);
    const Tensor out = to_device(expected);
    reference::accumulate(on_host, counts(size, 2), expected);
    cuda::accumulate(context, to_device(counts(size, 2)), out);
    EXPECT_EQ(max_difference(to_host(out), expected), 0);
  }
}

/// Windows of up to four dimensions; with widths that vectors fit, and that they do not.
TEST_F(ElementwiseGpu, StridedViews) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const std::int64_t width : {1, 7, 64}) {
      const auto window = [&](auto view) {
        return view.slice(0, 1, 3).slice(1, 2, 7).slice(2, 1, 3).slice(3, 4, 4 + width);
      };
      const HostTensor in = random_tensor(type, {3, 7, 4, width + 8}, 1);
      HostTensor sums = random_tensor(DType::f32, {4, 8, 3, width + 4}, 2),
                 copies = random_tensor(type, {4, 8, 3, width + 4}, 3);
      const Tensor device_in = to_device(in), device_sums = to_device(sums), device_copies = to_device(copies);
      reference::accumulate(on_host, window(in.view()), window(sums.view()));
      reference::copy(on_host, window(in.view()), window(copies.view()));
      cuda::accumulate(context, window(device_in.view()), window(device_sums.view()));
      cuda::copy(context, window(device_in.view()), window(device_copies.view()));
      // Whole tensors: what lies beside the windows must be as it was.
      EXPECT_EQ(max_difference(to_host(device_sums), sums), 0) << name_of(type) << width;
      EXPECT_EQ(max_difference(to_host(device_copies), copies), 0) << name_of(type) << width;
    }
  }
}

TEST_F(ElementwiseGpu, Scales) {
  for (const DType type : floating) {
    for (const std::int64_t size : sizes) {
      HostTensor expected = random_tensor(type, {size}, 1);
      const Tensor values = to_device(expected);
      reference::scale(on_host, 0.3, expected);
      cuda::scale(context, 0.3, values);
      EXPECT_EQ(max_difference(to_host(values), expected), 0) << name_of(type) << size;
    }
  }
}

/// The sums depend on the values alone, not on where they lie.
TEST_F(ElementwiseGpu, Sums) {
  for (const DType type : floating) {
    for (const std::int64_t size : {0, 1, 3, 131, 8193, 1000003}) {
      const HostTensor values = random_tensor(type, {size}, 1);
      HostTensor sum(DType::f64, {1}), squares(DType::f64, {1});
      reference::sum(on_host, values, sum);
      reference::sum_of_squares(on_host, values, squares);
      const Tensor device_values = to_device(values), shifted = poisoned(type, {size + 1});
      cuda::copy(context, device_values, shifted.view().rows(1, size + 1));
      const Tensor results = poisoned(DType::f64, {4});
      cuda::sum(context, device_values, results.view().rows(0, 1));
      cuda::sum(context, shifted.view().rows(1, size + 1), results.view().rows(1, 2));
      cuda::sum_of_squares(context, device_values, results.view().rows(2, 3));
      cuda::sum_of_squares(context, shifted.view().rows(1, size + 1), results.view().rows(3, 4));
      const HostTensor found = to_host(results);
      EXPECT_NEAR(element(found, 0), element(sum, 0), 1e-12 * static_cast<double>(size)) << name_of(type) << size;
      EXPECT_NEAR(element(found, 2), element(squares, 0), 1e-13 * static_cast<double>(size)) << name_of(type) << size;
      EXPECT_EQ(element(found, 0), element(found, 1)) << name_of(type) << size;
      EXPECT_EQ(element(found, 2), element(found, 3)) << name_of(type) << size;
    }
  }
}

TEST_F(ElementwiseGpu, RefusesIntegersWhereThereIsNoKernel) {
  const Tensor integers = poisoned(DType::i32, {3});
  EXPECT_THROW(cuda::scale(context, 2, integers), ContractError);
}

}  // namespace
}  // namespace moesaic
