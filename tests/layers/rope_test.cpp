#include "moesaic/layers/rope.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace moesaic {
namespace {

/// Those of a small GPT-OSS: width 16, theta 150000, 64 positions stretched 32 times.
RopeSpec stretched(bool truncate) {
  return {.theta = 150000, .yarn = YarnSpec{.factor = 32, .original_positions = 64, .truncate = truncate}};
}

TEST(Rope, PlainFrequenciesArePowersOfTheta) {
  const auto frequencies = rotary_frequencies({.theta = 10000}, 8);
  ASSERT_EQ(frequencies.size(), 4u);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(frequencies[i], std::pow(10.0, -static_cast<double>(i)), 1e-15);
  EXPECT_EQ(rotary_factor({.theta = 10000}), 1);
}

// Pair i turns 64 / (2 pi theta^(2i/16)) times in 64 positions: pair 0 about 10 times, pair 1.558 once. So the ramp goes from
// 0 (the pair of 32 turns would be negative) to 1.558, or to 2 in whole pairs.
TEST(Rope, YarnKeepsFastPairsAndDividesSlowOnes) {
  for (const bool truncate : {false, true}) {
    const auto plain = rotary_frequencies({.theta = 150000}, 16), yarn = rotary_frequencies(stretched(truncate), 16);
    EXPECT_EQ(yarn[0], 1);
    const double divided = truncate ? 1.0 / 2 : 1 / 1.5579325095742926;
    EXPECT_NEAR(yarn[1] / plain[1], 1 - divided * 31 / 32, 1e-12);
    for (std::size_t i = 2; i < 8; ++i) EXPECT_NEAR(yarn[i] / plain[i], 1.0 / 32, 1e-15) << i;
  }
}

TEST(Rope, YarnWithBothEndsOfTheRampInside) {
  const RopeSpec spec{.theta = 10000, .yarn = YarnSpec{.factor = 40, .original_positions = 4096}};
  const auto plain = rotary_frequencies({.theta = 10000}, 64), yarn = rotary_frequencies(spec, 64);
  // floor(32 ln(4096 / (64 pi)) / ln 10000) = 10, ceil(32 ln(4096 / (2 pi)) / ln 10000) = 23.
  EXPECT_EQ(yarn[10], plain[10]);
  EXPECT_LT(yarn[11], plain[11]);
  EXPECT_NEAR(yarn[16] / plain[16], 1 - 6.0 / 13 * 39 / 40, 1e-12);
  EXPECT_GT(yarn[22], plain[22] / 40);
  EXPECT_NEAR(yarn[23], plain[23] / 40, 1e-18);
}

TEST(Rope, ARampOfNoWidthIsAStep) {
  // Both ends are pair 0: none turns even once in 2 positions.
  const RopeSpec spec{.theta = 100, .yarn = YarnSpec{.factor = 2, .original_positions = 2}};
  const auto frequencies = rotary_frequencies(spec, 4);
  EXPECT_EQ(frequencies[0], 1);
  EXPECT_NEAR(frequencies[1], 0.05, 1e-15);
}

TEST(Rope, FactorOfCosineAndSine) {
  RopeSpec spec = stretched(false);
  EXPECT_NEAR(rotary_factor(spec), 0.1 * std::log(32.0) + 1, 1e-15);
  spec.yarn->mscale = 1;
  EXPECT_NEAR(rotary_factor(spec), 0.1 * std::log(32.0) + 1, 1e-15) << "one mscale alone does not count";
  spec.yarn->mscale_all_dim = 0.5;
  EXPECT_NEAR(rotary_factor(spec), (0.1 * std::log(32.0) + 1) / (0.05 * std::log(32.0) + 1), 1e-15);
  spec.yarn->attention_factor = 1.25;
  EXPECT_EQ(rotary_factor(spec), 1.25);
  EXPECT_EQ(yarn_mscale(0.5, 1), 1);
}

}  // namespace
}  // namespace moesaic
