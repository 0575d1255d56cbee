#pragma once
/// Weights that are stored in eight or four bits with scales, as numbers. Pure functions on bytes.

#include <cstdint>

#include "moesaic/grid/block.hpp"

namespace moesaic {

/// The number that a byte of FP8 E4M3 stands for (Micikevicius et al. 2022, arXiv 2209.05433): bias 7, no infinity.
/// Example: 0x38 is 1, 0x7e is 448, 0x01 is 2^-9, 0x7f is not a number.
float decode_f8_e4m3(std::uint8_t code);

/// Edge of the blocks that share a scale (DeepSeek-AI 2024, arXiv 2412.19437, section 3.3).
inline constexpr std::int64_t fp8_block = 128;

/// out [elements.size()] = elements of the flattened matrix [rows, columns] whose codes from `elements.begin` on are at
/// `codes`: element (i, j) = decode(code) * scales[i / 128 - first_scale_row, j / 128], scales having
/// ceil(columns / 128) columns.
void dequantise_fp8_blocks(const std::uint8_t* codes, Block elements, std::int64_t columns, const float* scales,
                           std::int64_t first_scale_row, float* out);

/// Numbers that share a scale in MXFP4 (Open Compute Project 2023, Microscaling Formats), two a byte.
inline constexpr std::int64_t mxfp4_group = 32;

/// One matrix in MXFP4, stored as [rows, groups] groups of 16 bytes, read as its transpose [32 groups, rows], as Transformers
/// reads GPT-OSS: out [elements.size()] = those elements of the flattened transpose. Number k of a row is the low (k even)
/// or high (k odd) half of byte k / 2, a sign, two bits of exponent and one of mantissa (0, .5, 1, 1.5, 2, 3, 4, 6), times
/// 2^(scale - 127) of its group; scales: [rows, groups].
void dequantise_mxfp4(const std::uint8_t* blocks, const std::uint8_t* scales, std::int64_t rows, std::int64_t groups,
                      Block elements, float* out);

}  // namespace moesaic
