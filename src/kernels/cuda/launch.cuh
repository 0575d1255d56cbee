#pragma once
/// Sizes of grids, and reductions over warps and blocks whose order is fixed.

#include "vector.cuh"

#include "moesaic/base/contract.hpp"

#include <cstdint>

namespace moesaic::cuda {

inline constexpr int block_threads = 256;
inline constexpr int warp_lanes = 32;
inline constexpr int block_warps = block_threads / warp_lanes;

/// Blocks for `items` of which each takes `per_block`; at least one, so that a launch is legal.
inline unsigned blocks_for(std::int64_t items, std::int64_t per_block = block_threads) {
  MOESAIC_EXPECT(items < std::int64_t{1} << 32);
  return items > 0 ? static_cast<unsigned>(ceil_divide(items, per_block)) : 1;
}

__device__ inline std::uint32_t thread_number() { return blockIdx.x * blockDim.x + threadIdx.x; }
/// Of blocks of block_threads.
__device__ inline std::uint32_t warp_number() { return blockIdx.x * block_warps + threadIdx.x / warp_lanes; }
__device__ inline int lane_number() { return static_cast<int>(threadIdx.x) % warp_lanes; }

/// Sum over `lanes` neighbouring lanes, the same in all of them.
template <int lanes = warp_lanes, class T> __device__ T warp_sum(T value) {
#pragma unroll
  for (int distance = lanes / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(~0u, value, distance);
  return value;
}

/// The largest over `lanes` neighbouring lanes, NaN left out.
template <int lanes = warp_lanes> __device__ float warp_max(float value) {
#pragma unroll
  for (int distance = lanes / 2; distance > 0; distance /= 2) {
    value = fmaxf(value, __shfl_xor_sync(~0u, value, distance));
  }
  return value;
}

/// Sum over a block of block_threads, the same in all threads. Once a kernel for each type.
template <class T> __device__ T block_sum(T value) {
  __shared__ T warp_sums[block_warps];
  value = warp_sum(value);
  if (lane_number() == 0) warp_sums[threadIdx.x / warp_lanes] = value;
  __syncthreads();
  value = 0;
#pragma unroll
  for (int warp = 0; warp < block_warps; ++warp) value += warp_sums[warp];
  return value;
}

}  // namespace moesaic::cuda
