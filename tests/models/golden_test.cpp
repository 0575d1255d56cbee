// One batch of the reference cases on one rank: hidden states, logits, losses and every gradient.
#include <gtest/gtest.h>

#include <tuple>

#include "support/golden_pass.hpp"

namespace moesaic {
namespace {

using Case = std::tuple<const char*, DType>;

class Golden : public ::testing::TestWithParam<Case> {};

TEST_P(Golden, FirstBatch) {
  const auto [name, type] = GetParam();
  GoldenPass pass(name, type);
  pass.check_hidden_states();
  pass.check_losses();
  pass.check_gradients();
}

INSTANTIATE_TEST_SUITE_P(
    OneRank, Golden, ::testing::Combine(::testing::ValuesIn(golden_cases), ::testing::Values(DType::f32, DType::f64)),
    [](const auto& instance) {
      return fmt::format("{}_{}", std::get<0>(instance.param), name_of(std::get<1>(instance.param)));
    });

}  // namespace
}  // namespace moesaic
