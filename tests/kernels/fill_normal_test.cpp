#include "moesaic/kernels/fill_normal.hpp"

#include <gtest/gtest.h>

#include "moesaic/base/random.hpp"
#include "support/host_context.hpp"
#include "support/host_tensor.hpp"

namespace moesaic {
namespace {

TEST(FillNormal, EveryElementIsThatOfItsGlobalIndex) {
  HostContext context;
  for (const std::int64_t first : {0, 3, 4093}) {
    for (const std::int64_t size : {0, 1, 131, 9001}) {
      HostTensor values(DType::f32, {size});
      reference::fill_normal(context, 42, first, 0.02, values);
      for (std::int64_t i = 0; i < size; ++i)
        ASSERT_EQ(values.data<float>()[i], static_cast<float>(0.02 * normal(42, static_cast<std::uint64_t>(first + i))))
            << first << " " << i;
    }
  }
}

}  // namespace
}  // namespace moesaic
