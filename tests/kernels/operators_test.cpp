#include <gtest/gtest.h>

#include "moesaic/kernels/operators.hpp"

namespace moesaic {
namespace {

TEST(Operators, ReferenceIsComplete) { EXPECT_EQ(missing_operators(DeviceKind::cpu), ""); }

TEST(Operators, ReferenceTableHoldsEachOperatorInItsPlace) {
  const Operators& table = operators(DeviceKind::cpu);
  EXPECT_EQ(table.gemm, &reference::gemm);
  EXPECT_EQ(table.router_backward, &reference::router_backward);
  EXPECT_EQ(table.scale, &reference::scale);
  EXPECT_EQ(table.sum, &reference::sum);
}

TEST(Operators, MissingOnesAreNamedInOrder) {
  const std::string missing = missing_operators(DeviceKind::cuda);
  const Operators& table = operators(DeviceKind::cuda);
  EXPECT_EQ(missing.find("gemm, ") == 0, table.gemm == nullptr) << missing;
  EXPECT_EQ(missing.find("rotary") == std::string::npos, table.rotary != nullptr) << missing;
}

}  // namespace
}  // namespace moesaic
