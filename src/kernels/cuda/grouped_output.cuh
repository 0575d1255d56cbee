#pragma once
/// Sums of grouped products on Hopper on their way to memory and back.

#include "grouped_stages.cuh"
#include "vector.cuh"

#include <cstdint>

namespace moesaic::cuda::hopper {

/// Part of a warp's 16 rows of output on its way to memory: 128 bytes of each, so that whole lines are written, padded
/// so that neither side has bank conflicts.
template <class Out> struct OutputPart;
template <> struct OutputPart<bf16> {
  static constexpr int width = 64;
  alignas(16) std::uint16_t rows[16][width + 8];
};
/// An output matrix of one expert: rows from `data` on, `stride` elements apart.
template <class Out> struct Output {
  Out* data;
  std::int64_t stride;
  int rows, width;
};

/// Puts sums [first, first + width) of this lane's row pairs where they belong in the warp's rows.
__device__ inline void stage_part(const float (&sums)[tile_n / 2], int first, OutputPart<bf16>& part) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int c = 0; c < part.width; c += 16) {
    const float* s = sums + (first + c) / 2;
    store_matrices(&part.rows[lane % 16][c + lane / 16 * 8], pack_bf16(s[0], s[1]), pack_bf16(s[2], s[3]),
                   pack_bf16(s[4], s[5]), pack_bf16(s[6], s[7]));
  }
}
/// Stores the sums of 16 rows from `row` on, 16 bytes a lane.
template <class Out>
__device__ void store_rows(const float (&sums)[tile_n / 2], const Output<Out>& out, int row, int column,
                           OutputPart<Out>& part) {
  constexpr int chunk = 16 / sizeof(Out), chunks = part.width / chunk, rows_at_once = 32 / chunks;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int own_row = lane / chunks, own_column = lane % chunks * chunk;
#pragma unroll
  for (int first = 0; first < tile_n; first += part.width) {
    if (column + first >= out.width) break;
    stage_part(sums, first, part);
    __syncwarp();
    Out* const to = out.data + (row + own_row) * out.stride + column + first + own_column;
#pragma unroll
    for (int r = 0; r < 16; r += rows_at_once) {
      if (row + own_row + r < out.rows)
        *reinterpret_cast<uint4*>(to + r * out.stride) =
            *reinterpret_cast<const uint4*>(&part.rows[own_row + r][own_column]);
    }
    __syncwarp();
  }
}

__device__ inline float2 load_pair(const bf16* from) {
  float values[2];
  load(from, values);
  return {values[0], values[1]};
}

/// Where the sums of a gradient begin: at what is in memory, or at zero. The loads are under way together while the
/// other group multiplies.
template <bool add, class Out>
__device__ void begin_sums(const Output<Out>& out, int row, int column, float (&sums)[tile_n / 2]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const Out* const from = out.data + (row + lane / 4) * out.stride + column + lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < tile_n / 4; ++i) {
    const int r = i % 2 * 8, c = i / 2 * 8;
    float2 before{0, 0};
    if constexpr (add) {
      if (row + lane / 4 + r < out.rows && column + c < out.width) before = load_pair(from + r * out.stride + c);
    }
    sums[2 * i] = before.x;
    sums[2 * i + 1] = before.y;
  }
}

}  // namespace moesaic::cuda::hopper
