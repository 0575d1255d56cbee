#include "moesaic/io/storage_type.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace moesaic {
namespace {

TEST(StorageType, HalvesWiden) {
  // 1, -2, largest 65504, smallest normal 2^-14, smallest subnormal 2^-24, infinity, not a number
  const std::vector<std::uint16_t> halves{0x3c00, 0xc000, 0x7bff, 0x0400, 0x0001, 0x7c00, 0x7e00};
  std::vector<float> values(halves.size());
  convert(StorageType::f16, halves.data(), 7, values.data());
  EXPECT_EQ(values[0], 1.0f);
  EXPECT_EQ(values[1], -2.0f);
  EXPECT_EQ(values[2], 65504.0f);
  EXPECT_EQ(values[3], std::ldexp(1.0f, -14));
  EXPECT_EQ(values[4], std::ldexp(1.0f, -24));
  EXPECT_TRUE(std::isinf(values[5]));
  EXPECT_TRUE(std::isnan(values[6]));
}

TEST(StorageType, BrainFloatsAndDoublesBecomeFloats) {
  const std::vector<std::uint16_t> brains{0x3f80, 0xc040};  // 1, -3
  std::vector<float> values(2);
  convert(StorageType::bf16, brains.data(), 2, values.data());
  EXPECT_EQ(values, (std::vector<float>{1, -3}));
  const std::vector<double> doubles{0.1, -2.5};
  convert(StorageType::f64, doubles.data(), 2, values.data());
  EXPECT_EQ(values, (std::vector<float>{0.1f, -2.5f}));
}

TEST(StorageType, IntegersKeepTheirSigns) {
  const std::vector<std::uint8_t> bytes{0xff, 0x80};
  std::vector<std::int64_t> values(2);
  convert(StorageType::u8, bytes.data(), 2, values.data());
  EXPECT_EQ(values, (std::vector<std::int64_t>{255, 128}));
  convert(StorageType::i8, bytes.data(), 2, values.data());
  EXPECT_EQ(values, (std::vector<std::int64_t>{-1, -128}));
  convert(StorageType::u16, bytes.data(), 1, values.data());
  EXPECT_EQ(values[0], 0x80ff);
  convert(StorageType::i16, bytes.data(), 1, values.data());
  EXPECT_EQ(values[0], 0x80ff - 0x10000);
}

TEST(StorageType, FloatsNarrowToTheNearest) {
  const std::vector<float> values{1,
                                  -2,
                                  65504,
                                  65519,
                                  65520,
                                  0,
                                  -0.0f,
                                  std::ldexp(1.0f, -24),
                                  std::ldexp(1.0f, -26),
                                  1 + std::ldexp(1.0f, -11),
                                  1 + std::ldexp(3.0f, -11)};
  std::vector<std::uint16_t> halves(values.size());
  convert_back(StorageType::f16, values.data(), std::ssize(values), halves.data());
  EXPECT_EQ(halves,
            (std::vector<std::uint16_t>{0x3c00, 0xc000, 0x7bff, 0x7bff, 0x7c00, 0, 0x8000, 1, 0, 0x3c00, 0x3c02}));
  std::vector<std::uint16_t> brains(1);
  convert_back(StorageType::bf16, values.data() + 1, 1, brains.data());
  EXPECT_EQ(brains[0], 0xc000);
  double wide = 0;
  convert_back(StorageType::f64, values.data() + 2, 1, &wide);
  EXPECT_EQ(wide, 65504);
}

TEST(StorageType, EveryHalfComesBack) {
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    float value = 0;
    convert(StorageType::f16, &half, 1, &value);
    if (std::isnan(value)) continue;
    std::uint16_t back = 0;
    convert_back(StorageType::f16, &value, 1, &back);
    ASSERT_EQ(back, half);
  }
}

TEST(StorageType, NamesAreThoseOfSafetensors) {
  EXPECT_EQ(storage_type_named("BF16"), StorageType::bf16);
  EXPECT_EQ(storage_type_named("BOOL"), StorageType::boolean);
  EXPECT_FALSE(storage_type_named("bf16"));
  for (DType type : {DType::f32, DType::f64, DType::bf16, DType::i32, DType::i64, DType::u8}) {
    EXPECT_EQ(size_of(stored(type)), size_of(type)) << name_of(type);
    EXPECT_EQ(storage_type_named(name_of(stored(type))), stored(type));
  }
}

TEST(StorageType, OnlyExactConversionsAreOffered) {
  EXPECT_TRUE(converts_to<float>(StorageType::f16));
  EXPECT_FALSE(converts_to<float>(StorageType::i32));
  EXPECT_FALSE(converts_to<float>(StorageType::f8_e4m3));
  EXPECT_TRUE(converts_to<std::int64_t>(StorageType::boolean));
  EXPECT_FALSE(converts_to<std::int64_t>(StorageType::u64));
  EXPECT_FALSE(converts_to<std::int64_t>(StorageType::f32));
}

}  // namespace
}  // namespace moesaic
