#include "moesaic/data/sampler.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace moesaic {
namespace {

std::vector<std::int64_t> pass_of(const Sampler& sampler, std::int64_t rows, std::int64_t pass) {
  std::vector<std::int64_t> order;
  for (std::int64_t i = 0; i < rows; ++i) order.push_back(sampler.row(pass * rows + i));
  return order;
}

TEST(Sampler, UnshuffledStartsOverAfterTheLastRow) {
  const Sampler sampler(3, false, 1);
  std::vector<std::int64_t> order;
  for (std::int64_t i = 0; i < 7; ++i) order.push_back(sampler.row(i));
  EXPECT_EQ(order, (std::vector<std::int64_t>{0, 1, 2, 0, 1, 2, 0}));
}

TEST(Sampler, EachShuffledPassIsAnotherPermutation) {
  const std::int64_t rows = 101;
  const Sampler sampler(rows, true, 7);
  std::vector<std::vector<std::int64_t>> passes;
  for (std::int64_t pass = 0; pass < 4; ++pass) {
    passes.push_back(pass_of(sampler, rows, pass));
    std::vector<std::int64_t> sorted = passes.back();
    EXPECT_FALSE(std::ranges::is_sorted(sorted));
    std::ranges::sort(sorted);
    for (std::int64_t i = 0; i < rows; ++i) EXPECT_EQ(sorted[static_cast<std::size_t>(i)], i);
    for (std::size_t before = 0; before + 1 < passes.size(); ++before) EXPECT_NE(passes[before], passes.back());
  }
}

TEST(Sampler, ShuffledOrderIsAFunctionOfSeedAndIndex) {
  const Sampler one(50, true, 7), same(50, true, 7), other(50, true, 8);
  EXPECT_EQ(pass_of(one, 50, 1), pass_of(same, 50, 1));
  EXPECT_NE(pass_of(one, 50, 1), pass_of(other, 50, 1));
  // Asked out of order, and far out.
  EXPECT_EQ(same.row(49), one.row(49));
  EXPECT_EQ(same.row(3), one.row(3));
  EXPECT_LT(one.row(std::int64_t{1} << 50), 50);
}

TEST(Sampler, OneRowIsReadAgainAndAgain) {
  const Sampler sampler(1, true, 7);
  for (std::int64_t i = 0; i < 4; ++i) EXPECT_EQ(sampler.row(i), 0);
}

}  // namespace
}  // namespace moesaic
