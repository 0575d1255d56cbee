#include "moesaic/base/text.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace moesaic {
namespace {

TEST(NearestName, FindsTheSmallestEditDistance) {
  const std::vector<std::string> keys{"grid.shard", "grid.expert", "train.steps", "moe.balance"};
  EXPECT_EQ(nearest_name("grid.experts", keys), "grid.expert");
  EXPECT_EQ(nearest_name("tran.steps", keys), "train.steps");
  EXPECT_EQ(nearest_name("moe.blaance", keys), "moe.balance");
  EXPECT_EQ(nearest_name("", keys), "grid.shard");
}

TEST(NearestName, SwappedNeighboursCountOnce) {
  // "ab" -> "ba" is one swap; "ab" -> "cd" is two substitutions; "ab" -> "abc" is one insertion, but comes
  // later.
  EXPECT_EQ(nearest_name("ab", std::vector<std::string>{"cd", "ba", "abc"}), "ba");
}

TEST(NearestName, IsEmptyWithoutCandidates) { EXPECT_EQ(nearest_name("steps", {}), ""); }

TEST(FormatBytes, ThreeFiguresAndABinaryUnit) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1536), "1.50 KiB");
  EXPECT_EQ(format_bytes(1024 * 1024 - 1), "1.00 MiB");
  EXPECT_EQ(format_bytes(std::int64_t{80} << 30), "80.0 GiB");
  EXPECT_EQ(format_bytes(INT64_MAX), "8.00 EiB");
  EXPECT_EQ(format_bytes(-2048), "-2.00 KiB");
}

TEST(FormatDuration, PicksItsUnits) {
  EXPECT_EQ(format_duration(0.35), "350ms");
  EXPECT_EQ(format_duration(0.9999), "1.0s");
  EXPECT_EQ(format_duration(12.34), "12.3s");
  EXPECT_EQ(format_duration(59.99), "1m 00s");
  EXPECT_EQ(format_duration(123), "2m 03s");
  EXPECT_EQ(format_duration(3723), "1h 02m 03s");
  EXPECT_EQ(format_duration(3 * 86400 + 4 * 3600 + 5 * 60 + 59), "3d 04h 05m");
  EXPECT_EQ(format_duration(INFINITY), "-");
}

TEST(FormatCount, ThreeFiguresAndADecimalUnit) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(2.5), "2.5");
  EXPECT_EQ(format_count(12345), "12.3k");
  EXPECT_EQ(format_count(999'950), "1.00M");
  EXPECT_EQ(format_count(3.4e6), "3.40M");
  EXPECT_EQ(format_count(30.5e9), "30.5B");
  EXPECT_EQ(format_count(1.2e12), "1.20T");
  EXPECT_EQ(format_count(-1500), "-1.50k");
  EXPECT_EQ(format_count(NAN), "-");
}

}  // namespace
}  // namespace moesaic
