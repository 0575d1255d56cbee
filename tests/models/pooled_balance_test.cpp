#include "moesaic/models/pooled_balance.hpp"

#include <gtest/gtest.h>

#include <array>

#include "support/host_tensor.hpp"

namespace moesaic {
namespace {

TEST(PooledAuxiliaryLoss, OneToken) {
  HostTensor probabilities = make_tensor(DType::f32, {1, 2}, {0.75, 0.25});
  HostTensor indices = make_tensor(DType::i32, {1, 1}, {0});
  EXPECT_EQ(pooled_auxiliary_loss(std::array{RecordedRouting{probabilities, indices}}), 1.5);
}

TEST(PooledAuxiliaryLoss, PoolsLayersBeforeItMultiplies) {
  // Each layer alone sends every token to one expert: 2 * 0.75 = 1.5. Pooled, the two balance: 2 * 2 * (0.5 * 0.5) = 1.
  HostTensor first = make_tensor(DType::f64, {1, 2}, {0.75, 0.25}),
             second = make_tensor(DType::f64, {1, 2}, {0.25, 0.75});
  HostTensor zero = make_tensor(DType::i32, {1, 1}, {0}), one = make_tensor(DType::i32, {1, 1}, {1});
  EXPECT_EQ(pooled_auxiliary_loss(std::array{RecordedRouting{first, zero}, RecordedRouting{second, one}}), 1.0);
}

TEST(PooledAuxiliaryLoss, PerfectBalanceGivesTopK) {
  HostTensor probabilities = make_tensor(DType::f64, {2, 4}, {0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25});
  HostTensor indices = make_tensor(DType::i32, {2, 2}, {0, 1, 2, 3});
  EXPECT_EQ(pooled_auxiliary_loss(std::array{RecordedRouting{probabilities, indices}}), 2.0);
}

TEST(PooledAuxiliaryLoss, NothingRouted) {
  EXPECT_EQ(pooled_auxiliary_loss({}), 0.0);
  HostTensor probabilities(DType::f64, {0, 4}), indices(DType::i32, {0, 2});
  EXPECT_EQ(pooled_auxiliary_loss(std::array{RecordedRouting{probabilities, indices}}), 0.0);
}

}  // namespace
}  // namespace moesaic
