#include "moesaic/tensor/dtype.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace moesaic {
namespace {

float rounded(float value) { return to_float(to_bf16(value)); }

TEST(DType, KnowsSizesAndNames) {
  EXPECT_EQ(size_of(DType::f64), 8);
  EXPECT_EQ(size_of(DType::i64), 8);
  EXPECT_EQ(size_of(DType::f32), 4);
  EXPECT_EQ(size_of(DType::i32), 4);
  EXPECT_EQ(size_of(DType::bf16), 2);
  EXPECT_EQ(size_of(DType::u8), 1);
  EXPECT_EQ(name_of(DType::bf16), "bf16");
  EXPECT_EQ(name_of(DType::i64), "i64");
}

TEST(BFloat16, KeepsWhatItCanHold) {
  EXPECT_EQ(to_bf16(1.0f).bits, 0x3f80);
  EXPECT_EQ(to_bf16(-2.0f).bits, 0xc000);
  EXPECT_EQ(to_bf16(-0.0f).bits, 0x8000);
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const bf16 value{static_cast<std::uint16_t>(bits)};
    if (std::isnan(to_float(value))) continue;
    ASSERT_EQ(to_bf16(to_float(value)).bits, bits);
  }
}

// One unit in the last place of 1 is 2^-7.
TEST(BFloat16, RoundsToNearest) {
  EXPECT_EQ(rounded(1.0f + 0x1p-9f), 1.0f);
  EXPECT_EQ(rounded(1.0f + 0x1.8p-8f), 1.0f + 0x1p-7f);
  EXPECT_EQ(rounded(-1.0f - 0x1.8p-8f), -1.0f - 0x1p-7f);
}

TEST(BFloat16, RoundsTiesToEven) {
  EXPECT_EQ(rounded(1.0f + 0x1p-8f), 1.0f);                       // between 0x3f80 and 0x3f81
  EXPECT_EQ(rounded(1.0f + 0x1p-7f + 0x1p-8f), 1.0f + 0x1p-6f);   // between 0x3f81 and 0x3f82
  EXPECT_EQ(rounded(1.0f + 0x1p-8f + 0x1p-23f), 1.0f + 0x1p-7f);  // just above a tie
}

TEST(BFloat16, CarriesIntoTheExponentAndOverflowsToInfinity) {
  EXPECT_EQ(rounded(2.0f - 0x1p-20f), 2.0f);
  EXPECT_EQ(rounded(std::numeric_limits<float>::max()), INFINITY);
  EXPECT_EQ(rounded(INFINITY), INFINITY);
  EXPECT_EQ(rounded(-INFINITY), -INFINITY);
}

TEST(BFloat16, KeepsNaN) {
  EXPECT_TRUE(std::isnan(rounded(NAN)));
  // A payload in the lower half alone would truncate to infinity.
  EXPECT_TRUE(std::isnan(rounded(std::bit_cast<float>(0x7f800001u))));
  EXPECT_TRUE(std::isnan(rounded(std::bit_cast<float>(0xffffffffu))));
}

}  // namespace
}  // namespace moesaic
