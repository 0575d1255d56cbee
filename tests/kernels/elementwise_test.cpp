#include "moesaic/kernels/elementwise.hpp"

#include <gtest/gtest.h>
#include <omp.h>

#include "support/host_context.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

HostContext context;
constexpr DType floating[] = {DType::f32, DType::f64, DType::bf16};

TEST(Elementwise, FillAndScaleOfAllTypesAndSizes) {
  for (const DType type : floating) {
    for (const std::int64_t size : {0, 1, 131, 40001}) {
      HostTensor x(type, {size});
      poison(x);
      reference::fill(context, 1.5, x);
      reference::scale(context, -2, x);
      EXPECT_EQ(elements(x), std::vector<double>(static_cast<std::size_t>(size), -3));
    }
  }
}

TEST(Elementwise, CopyConvertsBetweenAllTypes) {
  for (const DType from : floating) {
    for (const DType to : floating) {
      const HostTensor in = make_tensor(from, {2, 2}, {1, -2.5, 0, 1024});
      HostTensor out(to, {2, 2});
      poison(out);
      reference::copy(context, in, out);
      EXPECT_EQ(elements(out), elements(in));
    }
  }
}

TEST(Elementwise, CopyToBf16RoundsToNearestEven) {
  // bf16 has 8 significant bits: 1 + 1/256 lies halfway, 1 + 3/256 too.
  const HostTensor in = make_tensor(DType::f32, {3}, {1 + 1.0 / 256, 1 + 3.0 / 256, 1 + 1.0 / 256 + 1.0 / 65536});
  HostTensor out(DType::bf16, {3});
  reference::copy(context, in, out);
  EXPECT_EQ(elements(out), (std::vector<double>{1, 1 + 4.0 / 256, 1 + 2.0 / 256}));
}

TEST(Elementwise, AccumulateAddsAcrossTypes) {
  for (const DType from : floating) {
    for (const DType to : floating) {
      const HostTensor in = make_tensor(from, {3}, {1, -2.5, 8});
      HostTensor out = make_tensor(to, {3}, {0.5, 2.5, -4});
      reference::accumulate(context, in, out);
      EXPECT_EQ(elements(out), (std::vector<double>{1.5, 0, 4}));
    }
  }
}

TEST(Elementwise, CopyAndAccumulateTakeStridedViews) {
  // Columns 1 and 2 of two rows of four: elements 1, 2, 5, 6.
  HostTensor wide = make_tensor(DType::f32, {2, 1, 4}, {0, 1, 2, 3, 4, 5, 6, 7});
  const View columns = wide.view().slice(2, 1, 3);
  HostTensor dense = make_tensor(DType::f64, {2, 1, 2}, {10, 20, 30, 40});
  reference::accumulate(context, columns, dense);
  EXPECT_EQ(elements(dense), (std::vector<double>{11, 22, 35, 46}));
  reference::copy(context, dense, columns);
  EXPECT_EQ(elements(wide), (std::vector<double>{0, 11, 22, 3, 4, 35, 46, 7}));
  reference::copy(context, wide.view().slice(2, 0, 2), wide.view().slice(2, 2, 4));
  EXPECT_EQ(elements(wide), (std::vector<double>{0, 11, 0, 11, 4, 35, 4, 35}));
}

TEST(Elementwise, CountsAreFilledAndAdded) {
  const HostTensor in = make_tensor(DType::i64, {2}, {3, -4});
  HostTensor out(DType::i64, {2});
  reference::fill(context, 5, out);
  reference::accumulate(context, in, out);
  EXPECT_EQ(elements(out), (std::vector<double>{8, 1}));
}

double sum_with(Sum* operation, ConstView values) {
  double result = -1;
  operation(context, values, host_view(&result, {1}));
  return result;
}

TEST(Elementwise, SumsOfIntegersAreExact) {
  for (const DType type : floating) {
    const HostTensor x = make_tensor(type, {4}, {1, -2, 3, -4});
    EXPECT_EQ(sum_with(reference::sum, x), -2);
    EXPECT_EQ(sum_with(reference::sum_of_squares, x), 30);
  }
  EXPECT_EQ(sum_with(reference::sum, HostTensor(DType::f32, {0})), 0);
  HostTensor ones(DType::f32, {100003});
  reference::fill(context, 1, ones);
  EXPECT_EQ(sum_with(reference::sum, ones), 100003);
  EXPECT_EQ(sum_with(reference::sum_of_squares, ones), 100003);
}

TEST(Elementwise, SumsAreTheSameBitsForAnyNumberOfThreads) {
  const HostTensor x = random_tensor(DType::f32, {100003}, 1);
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  const double one = sum_with(reference::sum_of_squares, x);
  omp_set_num_threads(3);
  EXPECT_EQ(sum_with(reference::sum_of_squares, x), one);
  omp_set_num_threads(threads);
}

}  // namespace
}  // namespace moesaic
