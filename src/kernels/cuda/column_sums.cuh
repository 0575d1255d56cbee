#pragma once
/// Sums down the columns of a tile of threads, in a fixed order.

#include "vector.cuh"

namespace moesaic::cuda {

/// A block of tile_lanes x tile_depth threads: x along the columns, y down the rows. deep_tile: for many rows and few
/// columns.
inline constexpr int tile_lanes = 32, tile_depth = 8, deep_tile = 32;

/// Adds up what the `tile` threads of a column hold, in order; the result is with threadIdx.y = 0.
template <int tile = tile_depth, int count, class T> __device__ void sum_over_tile(T (&sums)[count]) {
  __shared__ T shared[tile][tile_lanes * count];
#pragma unroll
  for (int i = 0; i < count; ++i) shared[threadIdx.y][i * tile_lanes + threadIdx.x] = sums[i];
  __syncthreads();
  if (threadIdx.y != 0) return;
  for (int depth = 1; depth < tile; ++depth) {
#pragma unroll
    for (int i = 0; i < count; ++i) sums[i] += shared[depth][i * tile_lanes + threadIdx.x];
  }
}

/// The sum of column `column` of partials [chunks, width]; with threadIdx.y = 0.
template <int tile = tile_depth, class T>
__device__ T sum_of_chunks(int chunks, std::int64_t width, std::int64_t column, const T* partials) {
  T sums[1] = {};
#pragma unroll 8
  for (int chunk = static_cast<int>(threadIdx.y); column < width && chunk < chunks; chunk += tile) {
    sums[0] += partials[chunk * width + column];
  }
  sum_over_tile<tile>(sums);
  return sums[0];
}

}  // namespace moesaic::cuda
