#include "moesaic/kernels/fill_normal.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "support/gpu.hpp"

namespace moesaic {
namespace {

using FillNormalOnGpu = GpuTest;

TEST_F(FillNormalOnGpu, IsThatOfTheReferenceButForTheLastBit) {
  for (const std::int64_t first : {0, 3, 4093}) {
    for (const std::int64_t size : {0, 1, 131, 1'000'003}) {
      const Tensor values = poisoned(DType::f32, {size});
      cuda::fill_normal(context, 42, first, 0.02, values);
      HostTensor expected(DType::f32, {size});
      reference::fill_normal(on_host, 42, first, 0.02, expected);
      const HostTensor found = to_host(values);
      for (std::int64_t i = 0; i < size; ++i) {
        const float a = found.data<float>()[i], b = expected.data<float>()[i];
        ASSERT_LE(std::abs(a - b), 2.4e-7f * std::abs(b) + 1e-12f) << first << " " << i;
      }
    }
  }
}

TEST_F(FillNormalOnGpu, ARangeHasTheBitsOfTheWhole) {
  const Tensor whole = poisoned(DType::f32, {1000}), part = poisoned(DType::f32, {301});
  cuda::fill_normal(context, 7, 0, 1, whole);
  cuda::fill_normal(context, 7, 333, 1, part);
  const HostTensor all = to_host(whole), some = to_host(part);
  for (std::int64_t i = 0; i < 301; ++i) ASSERT_EQ(some.data<float>()[i], all.data<float>()[333 + i]);
}

}  // namespace
}  // namespace moesaic
