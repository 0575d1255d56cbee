#pragma once
/// How the threads of a block share the rows that RMSNorm works on.

#include "launch.cuh"
#include "rows.cuh"

namespace moesaic::cuda {

/// In place of a number of threads a row: all of the block.
inline constexpr int whole_block = 0;

template <int threads> __device__ int row_threads() {
  return threads == whole_block ? static_cast<int>(blockDim.x) : threads;
}

/// Sum over the `threads` neighbouring threads that share a row, the same in all of them, in a fixed order. `parity`
/// alternates between sums that one block takes in a loop.
template <int threads> __device__ float sum_over_row(float value, int parity = 0) {
  constexpr int most_warps = 1024 / warp_lanes;
  value = warp_sum<(threads != whole_block && threads < warp_lanes ? threads : warp_lanes)>(value);
  if constexpr (threads == whole_block) {
    __shared__ float warp_sums[2][most_warps];
    if (lane_number() == 0) warp_sums[parity][threadIdx.x / warp_lanes] = value;
    __syncthreads();
    value = 0;
    for (int warp = 0; warp < static_cast<int>(blockDim.x) / warp_lanes; ++warp) value += warp_sums[parity][warp];
  }
  return value;
}

inline std::int64_t row_count(const ConstView& x) { return x.rank() == 2 ? x.extent(0) : x.extent(0) * x.extent(1); }

/// body(threads a row): few for short rows (heads), a block for long ones.
template <class Body> void with_threads(std::int64_t vectors_per_row, const Body& body) {
  if (vectors_per_row <= 16) return body(Constant<16>{});
  if (vectors_per_row <= 64) return body(Constant<warp_lanes>{});
  body(Constant<whole_block>{});
}

/// The longest rows that are kept, in vectors.
inline constexpr std::int64_t most_kept_vectors = 2048;

/// body(threads a row or whole_block, vectors a thread, threads a block): no more threads than have something to do.
template <class Body> void with_kept_row(std::int64_t vectors_per_row, const Body& body) {
  if (vectors_per_row <= 16) return body(Constant<16>{}, Constant<1>{}, block_threads);
  if (vectors_per_row <= 64) return body(Constant<warp_lanes>{}, Constant<2>{}, block_threads);
  const auto threads = [&](std::int64_t vectors) {
    return static_cast<int>(ceil_divide(vectors_per_row, vectors * warp_lanes)) * warp_lanes;
  };
  if (vectors_per_row <= 512) return body(Constant<whole_block>{}, Constant<1>{}, threads(1));
  if (vectors_per_row <= 1024) return body(Constant<whole_block>{}, Constant<2>{}, threads(2));
  body(Constant<whole_block>{}, Constant<4>{}, threads(4));
}

/// Rows that a block works on at once.
inline std::int64_t rows_at_once(int threads_per_row) {
  return threads_per_row == whole_block ? 1 : block_threads / threads_per_row;
}

}  // namespace moesaic::cuda
