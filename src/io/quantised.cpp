#include "moesaic/io/quantised.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

namespace moesaic {
namespace {

std::array<float, 256> f8_e4m3_numbers() {
  std::array<float, 256> numbers{};
  for (int code = 0; code < 256; ++code) {
    const int exponent = (code >> 3) & 0xf, mantissa = code & 7;
    float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                    : std::ldexp(static_cast<float>(mantissa + 8), exponent - 10);
    if ((code & 0x7f) == 0x7f) magnitude = std::numeric_limits<float>::quiet_NaN();
    numbers[static_cast<std::size_t>(code)] = (code & 0x80) != 0 ? -magnitude : magnitude;
  }
  return numbers;
}

const std::array<float, 256>& f8_e4m3_table() {
  static const std::array<float, 256> table = f8_e4m3_numbers();
  return table;
}

/// 2^(code - 127), which is a float's exponent but for the smallest; 255 is no number.
float mxfp4_scale(std::uint8_t code) {
  if (code == 255) return std::numeric_limits<float>::quiet_NaN();
  return std::bit_cast<float>(code == 0 ? 1u << 22 : static_cast<std::uint32_t>(code) << 23);
}

constexpr std::array<float, 16> mxfp4_numbers{0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                              -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

}  // namespace

float decode_f8_e4m3(std::uint8_t code) { return f8_e4m3_table()[code]; }

void dequantise_fp8_blocks(const std::uint8_t* codes, Block elements, std::int64_t columns, const float* scales,
                           std::int64_t first_scale_row, float* out) {
  const std::array<float, 256>& numbers = f8_e4m3_table();
  const std::int64_t scale_columns = (columns + fp8_block - 1) / fp8_block;
  for (std::int64_t at = elements.begin; at < elements.end;) {
    const std::int64_t row = at / columns, column = at % columns;
    const std::int64_t block_end = std::min((column / fp8_block + 1) * fp8_block, columns);
    const std::int64_t end = std::min(at + block_end - column, elements.end);
    const float scale = scales[(row / fp8_block - first_scale_row) * scale_columns + column / fp8_block];
    for (; at < end; ++at) *out++ = numbers[*codes++] * scale;
  }
}

void dequantise_mxfp4(const std::uint8_t* blocks, const std::uint8_t* scales, std::int64_t rows, std::int64_t groups,
                      Block elements, float* out) {
  for (std::int64_t at = elements.begin; at < elements.end; ++at) {
    const std::int64_t number = at / rows, row = at % rows;
    const std::int64_t group = row * groups + number / mxfp4_group, within = number % mxfp4_group;
    const int byte = blocks[group * (mxfp4_group / 2) + within / 2];
    const int code = within % 2 == 0 ? byte & 0xf : byte >> 4;
    *out++ = mxfp4_numbers[static_cast<std::size_t>(code)] * mxfp4_scale(scales[group]);
  }
}

}  // namespace moesaic
