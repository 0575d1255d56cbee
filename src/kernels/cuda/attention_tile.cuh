#pragma once
/// Products of tiles in shared memory, in f32, by a block of 16 x 16 threads of which each holds every 16th row and column.

#include "attention_rows.cuh"
#include "launch.cuh"

#include <cstdint>

namespace moesaic::cuda {

inline constexpr int tile_side = 16;

__device__ inline int tile_row() { return static_cast<int>(threadIdx.x) / tile_side; }
__device__ inline int tile_column() { return static_cast<int>(threadIdx.x) % tile_side; }

/// Elements from one row of a tile in shared memory to the next: odd, so that columns lie in different banks.
__host__ __device__ constexpr int tile_stride(int width) { return width | 1; }

/// tile [rows, width] = rows [first, first + rows) of a head, zero from `end` on. One warp a row.
template <class T>
__device__ void load_tile(const T* head, std::int64_t stride, int first, int end, int rows, int width, float* tile) {
  for (int r = static_cast<int>(threadIdx.x) / warp_lanes; r < rows; r += block_warps) {
    const T* row = head + (first + r) * stride;
    float* to = tile + r * tile_stride(width);
    for (int c = lane_number(); c < width; c += warp_lanes) to[c] = first + r < end ? widen(row[c]) : 0.0f;
  }
}

/// sums[i][j] = <row tile_row + 16 i of a, row tile_column + 16 j of b>.
template <int count>
__device__ void multiply_rows(const float* a, const float* b, int width, float (&sums)[count][count]) {
  const int stride = tile_stride(width);
#pragma unroll
  for (int i = 0; i < count; ++i) {
#pragma unroll
    for (int j = 0; j < count; ++j) sums[i][j] = 0;
  }
#pragma unroll 4
  for (int c = 0; c < width; ++c) {
    float left[count], right[count];
#pragma unroll
    for (int i = 0; i < count; ++i) left[i] = a[(tile_row() + tile_side * i) * stride + c];
#pragma unroll
    for (int j = 0; j < count; ++j) right[j] = b[(tile_column() + tile_side * j) * stride + c];
#pragma unroll
    for (int i = 0; i < count; ++i) {
#pragma unroll
      for (int j = 0; j < count; ++j) sums[i][j] += left[i] * right[j];
    }
  }
}

/// sums[i][j] += row tile_row + 16 i of factors [16 count, 16 count] times column tile_column + 16 j of b [.., width].
template <int count, int columns>
__device__ void add_product(const float* factors, const float* b, int width, float (&sums)[count][columns]) {
  constexpr int depth = tile_side * count;
  const int stride = tile_stride(width);
  for (int k = 0; k < depth; ++k) {
    float left[count];
#pragma unroll
    for (int i = 0; i < count; ++i) left[i] = factors[(tile_row() + tile_side * i) * tile_stride(depth) + k];
#pragma unroll
    for (int j = 0; j < columns; ++j) {
      const int c = tile_column() + tile_side * j;
      const float right = c < width ? b[k * stride + c] : 0.0f;
#pragma unroll
      for (int i = 0; i < count; ++i) sums[i][j] += left[i] * right;
    }
  }
}

/// Writes values[i][j] to row tile_row + 16 i, column tile_column + 16 j of a tile [16 count, 16 count].
template <int count> __device__ void store_square(const float (&values)[count][count], float* tile) {
#pragma unroll
  for (int i = 0; i < count; ++i) {
#pragma unroll
    for (int j = 0; j < count; ++j) {
      tile[(tile_row() + tile_side * i) * tile_stride(tile_side * count) + tile_column() + tile_side * j] =
          values[i][j];
    }
  }
}

/// Rows [first, end) of a head = factor * sums, for this thread's rows and columns.
template <class T, int count, int columns>
__device__ void store_rows(const float (&sums)[count][columns], float factor, T* head, std::int64_t stride, int first,
                           int end, int width) {
#pragma unroll
  for (int i = 0; i < count; ++i) {
    const int row = first + tile_row() + tile_side * i;
    if (row >= end) continue;
#pragma unroll
    for (int j = 0; j < columns; ++j) {
      const int c = tile_column() + tile_side * j;
      if (c < width) head[row * stride + c] = narrow<T>(factor * sums[i][j]);
    }
  }
}

}  // namespace moesaic::cuda
