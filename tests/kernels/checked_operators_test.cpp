#include "moesaic/kernels/checked_operators.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "support/host_context.hpp"
#include "support/host_tensor.hpp"

namespace moesaic {
namespace {

class CheckedOperators : public ::testing::Test {
 protected:
  HostContext context;
  OperatorCheck check{operators(DeviceKind::cpu)};
  HostTensor values = make_tensor(DType::f32, {2}, {1, 2});
};

TEST_F(CheckedOperators, DoWhatTheOthersDo) {
  check.table().scale(context, 3, values);
  EXPECT_EQ(elements(values), (std::vector<double>{3, 6}));
  EXPECT_FALSE(check.first());
}

TEST_F(CheckedOperators, NameTheFirstThatWasNotFiniteAndItsPlace) {
  check.enter("blocks/3");
  check.table().scale(context, std::numeric_limits<double>::infinity(), values);
  check.enter("blocks/4");
  HostTensor sums(DType::f32, {2});
  check.table().accumulate(context, values, sums);
  ASSERT_TRUE(check.first());
  EXPECT_EQ(check.first()->operation, "scale");
  EXPECT_EQ(check.first()->place, "blocks/3");
  EXPECT_TRUE(check.first()->finite_inputs);
}

TEST_F(CheckedOperators, TellWhenTheInputWasToBlame) {
  const HostTensor spoilt = make_tensor(DType::f32, {2}, {1, std::nan("")});
  check.table().accumulate(context, spoilt, values);
  ASSERT_TRUE(check.first());
  EXPECT_EQ(check.first()->operation, "accumulate");
  EXPECT_FALSE(check.first()->finite_inputs);
}

TEST_F(CheckedOperators, LookAtEveryElementOfStridedViews) {
  HostTensor table(DType::f32, {2, 3});
  const View columns = table.view().slice(1, 1, 2);
  check.table().copy(context, make_tensor(DType::f32, {2, 1}, {5, std::nan("")}), columns);
  ASSERT_TRUE(check.first());
  EXPECT_EQ(check.first()->operation, "copy");
}

TEST_F(CheckedOperators, AcceptMinusInfinity) {
  check.table().fill(context, -std::numeric_limits<double>::infinity(), values);
  EXPECT_FALSE(check.first());
}

}  // namespace
}  // namespace moesaic
