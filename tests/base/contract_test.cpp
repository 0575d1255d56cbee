#include "moesaic/base/contract.hpp"

#include <gtest/gtest.h>

namespace moesaic {
namespace {

TEST(Contract, ValidateThrowsTheSentence) {
  try {
    MOESAIC_VALIDATE(1 > 2, "experts = {} (why); use {}", 3, 4);
    FAIL() << "nothing was thrown";
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(), "experts = 3 (why); use 4");
  }
  EXPECT_NO_THROW(MOESAIC_VALIDATE(2 > 1, "never"));
}

TEST(Contract, ChecksExistOnlyInDebugBuilds) {
  int evaluated = 0;
  const auto broken = [&evaluated] { return ++evaluated == 0; };
#ifdef MOESAIC_DEBUG
  EXPECT_THROW(MOESAIC_EXPECT(broken()), ContractError);
  EXPECT_EQ(evaluated, 1);
#else
  MOESAIC_EXPECT(broken());
  EXPECT_EQ(evaluated, 0);
#endif
}

TEST(Contract, FailureNamesKindConditionAndPlace) {
  try {
    detail::contract_failed("precondition", "a < b", "file.cpp", 12);
    FAIL() << "nothing was thrown";
  } catch (const ContractError& error) {
    EXPECT_STREQ(error.what(),
                 "precondition failed: a < b (file.cpp:12); this is a defect in moesaic, please report it");
  }
}

}  // namespace
}  // namespace moesaic
