#include "moesaic/comm/rank_order_sum.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace moesaic {
namespace {

TEST(RankOrderSum, AddsFromTheFirstToTheLast) {
  // In this order the 1 is lost (1e8 + 1 rounds to 1e8); in any other it is not.
  const float a = 1e8f, b = 1.0f, c = -1e8f;
  float sum = -1;
  const std::vector<const void*> parts{&a, &b, &c};
  sum_in_rank_order(parts, host_view(&sum, {1}));
  EXPECT_EQ(sum, 0.0f);
  const std::vector<const void*> other_order{&a, &c, &b};
  sum_in_rank_order(other_order, host_view(&sum, {1}));
  EXPECT_EQ(sum, 1.0f);
}

TEST(RankOrderSum, MayWriteOverAnyPart) {
  // Sizes around the inner tile and beyond the threshold of threading.
  for (const std::int64_t n : {0, 1, 131, 2048, 2049, 200'003}) {
    for (int target = 0; target < 3; ++target) {
      std::vector<std::vector<std::int64_t>> parts(3);
      for (int p = 0; p < 3; ++p) {
        for (std::int64_t i = 0; i < n; ++i) parts[p].push_back((p + 1) * i);
      }
      const std::vector<const void*> addresses{parts[0].data(), parts[1].data(), parts[2].data()};
      sum_in_rank_order(addresses, host_view(parts[target].data(), {n}));
      for (std::int64_t i = 0; i < n; ++i) ASSERT_EQ(parts[target][i], 6 * i) << n << " " << target;
    }
  }
}

}  // namespace
}  // namespace moesaic
