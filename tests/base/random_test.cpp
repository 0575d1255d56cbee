#include "moesaic/base/random.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>
#include <vector>

namespace moesaic {
namespace {

using Words = std::array<std::uint32_t, 4>;

// The known answers that the authors of the generator publish with Random123.
TEST(Philox, GivesThePublishedAnswers) {
  constexpr std::uint32_t ones = 0xffffffffu;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({ones, ones, ones, ones}, {ones, ones}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomKey, DependsOnSeedAndName) {
  const std::set<std::uint64_t> keys{random_key(0, "a"), random_key(1, "a"), random_key(0, "b"), random_key(0, "")};
  EXPECT_EQ(keys.size(), 4u);
  EXPECT_EQ(random_key(0, "abc"), 0x44bc2cf5ad770999u);
}

TEST(RandomBits, AreTheFirstTwoWordsOfTheGenerator) {
  EXPECT_EQ(random_bits(0, 0), 0xe169c58d6627e8d5u);
  EXPECT_NE(random_bits(0, std::uint64_t{1} << 32), random_bits(0, 0));
  EXPECT_NE(random_bits(std::uint64_t{1} << 32, 0), random_bits(0, 0));
}

TEST(Uniform, LiesInTheUnitIntervalWithTheRightMoments) {
  constexpr int count = 100'000;
  double sum = 0, squares = 0;
  for (int i = 0; i < count; ++i) {
    const double value = uniform(7, i);
    ASSERT_GE(value, 0.0);
    ASSERT_LT(value, 1.0);
    sum += value;
    squares += value * value;
  }
  EXPECT_NEAR(sum / count, 0.5, 0.004);  // four standard errors: 4 * sqrt(1 / 12 / count)
  EXPECT_NEAR(squares / count, 1.0 / 3.0, 0.004);
}

TEST(Normal, HasTheRightMoments) {
  constexpr int count = 200'000;
  std::array<double, 5> moment{};
  double neighbours = 0;
  for (int i = 0; i < count; ++i) {
    const double value = normal(3, i);
    ASSERT_LT(std::abs(value), 6.8);
    for (int power = 1; power <= 4; ++power) moment[static_cast<std::size_t>(power)] += std::pow(value, power) / count;
    neighbours += value * normal(3, i + 1) / count;
  }
  EXPECT_NEAR(moment[1], 0, 0.01);
  EXPECT_NEAR(moment[2], 1, 0.015);
  EXPECT_NEAR(moment[3], 0, 0.04);
  EXPECT_NEAR(moment[4], 3, 0.1);
  EXPECT_NEAR(neighbours, 0, 0.01);
}

// r = sqrt(-2 ln u), cos and sin of 2 pi v, from the words of counter (group, 0, 1, 0).
TEST(Normal, FollowsBoxAndMuller) {
  const Words words = philox4x32({5, 0, 1, 0}, {11, 0});
  const double u = (words[2] + 0.5) / 4294967296.0, v = (words[3] + 0.5) / 4294967296.0;
  const double radius = std::sqrt(-2 * std::log(u)), angle = 2 * M_PI * v;
  EXPECT_FLOAT_EQ(normal(11, 22), static_cast<float>(radius * std::cos(angle)));
  EXPECT_FLOAT_EQ(normal(11, 23), static_cast<float>(radius * std::sin(angle)));
}

TEST(FillNormal, GivesTheSameBitsWhateverTheRange) {
  constexpr std::int64_t count = 133;
  for (const std::uint64_t start : {std::uint64_t{0}, (std::uint64_t{1} << 32) - 50, (std::uint64_t{1} << 61) + 1}) {
    for (std::int64_t begin = 0; begin < 9; ++begin)
      for (std::int64_t size : {std::int64_t{0}, std::int64_t{1}, std::int64_t{2}, std::int64_t{6}, count - begin}) {
        std::vector<float> values(static_cast<std::size_t>(size));
        fill_normal(42, start + begin, values, 1.0);
        for (std::int64_t i = 0; i < size; ++i)
          ASSERT_EQ(std::bit_cast<std::uint32_t>(values[static_cast<std::size_t>(i)]),
                    std::bit_cast<std::uint32_t>(normal(42, start + begin + i)));
      }
  }
}

TEST(FillNormal, ScalesByTheDeviation) {
  std::vector<float> values(5);
  fill_normal(1, 3, values, 0.02);
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(values[i], static_cast<float>(0.02 * normal(1, 3 + i)));
}

TEST(Permutation, IsABijection) {
  for (std::int64_t size = 1; size <= 300; ++size) {
    const Permutation permutation(size, size);
    std::vector<bool> hit(static_cast<std::size_t>(size), false);
    for (std::int64_t i = 0; i < size; ++i) {
      const std::int64_t image = permutation(i);
      ASSERT_TRUE(0 <= image && image < size) << size;
      ASSERT_FALSE(hit[static_cast<std::size_t>(image)]) << size;
      hit[static_cast<std::size_t>(image)] = true;
    }
  }
}

TEST(Permutation, DependsOnTheKeyAndMixes) {
  constexpr std::int64_t size = 1000;
  const Permutation one(1, size), two(2, size);
  int same = 0, fixed = 0, successors = 0;
  for (std::int64_t i = 0; i < size; ++i) {
    same += one(i) == two(i);
    fixed += one(i) == i;
    successors += one((i + 1) % size) == (one(i) + 1) % size;
  }
  EXPECT_LT(same, 10);  // each is 1 on average
  EXPECT_LT(fixed, 10);
  EXPECT_LT(successors, 10);
}

// All 24 orders of four elements turn up about equally often over the keys.
TEST(Permutation, SmallSizesReachEveryOrder) {
  std::array<int, 256> seen{};
  constexpr int keys = 24'000;
  for (int key = 0; key < keys; ++key) {
    const Permutation permutation(key, 4);
    std::size_t code = 0;
    for (int i = 0; i < 4; ++i) code = code * 4 + static_cast<std::size_t>(permutation(i));
    ++seen[code];
  }
  const auto orders = std::ranges::count_if(seen, [](int count) { return count > 0; });
  EXPECT_EQ(orders, 24);
  EXPECT_LT(std::ranges::max(seen), 2 * keys / 24);
}

TEST(Permutation, ReachesTheLargestSize) {
  constexpr std::int64_t size = std::int64_t{1} << 62;
  const Permutation permutation(9, size);
  std::set<std::int64_t> images;
  for (std::int64_t i : {std::int64_t{0}, std::int64_t{1}, size / 2, size - 2, size - 1}) {
    const std::int64_t image = permutation(i);
    EXPECT_TRUE(0 <= image && image < size);
    images.insert(image);
  }
  EXPECT_EQ(images.size(), 5u);
}

}  // namespace
}  // namespace moesaic
