#pragma once
/// The stages of grouped products on Hopper: parts of both operands in shared memory, how they get there, and the
/// products of one on the tensor cores.

#include "hopper.cuh"
#include "tensor_map.hpp"
#include "wgmma.cuh"

#include <cstdint>

namespace moesaic::cuda::hopper {

inline constexpr int tile_m = 128, tile_n = 192, tile_k = 64, stages = 5;
inline constexpr int group_threads = 128, piece = 64;

/// Which product: gemm.hpp says what each is.
enum class Form { forward, input_gradient, weight_gradient };

template <Form form> constexpr Major a_major = form == Form::weight_gradient ? Major::outer : Major::summed;
template <Form form> constexpr Major b_major = form == Form::forward ? Major::summed : Major::outer;

/// Each operand's part of a stage comes in two halves, which the two blocks of a cluster may fetch for each other: half
/// of the outer rows where the summed axis is contiguous, half of the summed rows where the outer axis is.
constexpr Box half_box(Major major, int outer) {
  return major == Major::summed ? Box{outer / 2, 1} : Box{tile_k / 2, outer / piece};
}
template <int outer> constexpr int half_bytes = outer / 2 * tile_k * 2;

/// What one step along the sums needs.
struct Stage {
  alignas(1024) unsigned char a[2][half_bytes<tile_m>];
  unsigned char b[2][half_bytes<tile_n>];
};

/// Position in a ring of stages.
template <int stages> struct RingOf {
  int stage = 0;
  std::uint32_t parity = 0;
  __device__ void advance(int steps = 1) {
    stage += steps;
    parity ^= static_cast<std::uint32_t>(stage / stages) & 1;
    stage %= stages;
  }
};
using Ring = RingOf<stages>;

/// Where half `half` of an operand's part of step `step` lies.
template <Major major, int outer_extent>
__device__ Place place_of(int outer, int first_summed, int matrix, int step, int half) {
  if constexpr (major == Major::summed) return {outer + half * (outer_extent / 2), step, matrix};
  return {first_summed + step * tile_k + half * (tile_k / 2), outer / piece, matrix};
}

/// Fetches one operand's part: whole, or this block's half for both blocks. `policy`: a CachePolicy, or none.
template <Major major, int outer_extent, class Halves, class... Policy>
__device__ void fetch(const CUtensorMap& map, bool shared, int rank, int outer, int first_summed, int matrix, int step,
                      Halves& halves, Barrier& full, Policy... policy) {
  if (shared) {
    copy_box_to_both(map, place_of<major, outer_extent>(outer, first_summed, matrix, step, rank), halves[rank], full,
                     policy...);
    return;
  }
#pragma unroll
  for (int half = 0; half < 2; ++half)
    copy_box(map, place_of<major, outer_extent>(outer, first_summed, matrix, step, half), halves[half], full,
             policy...);
}

/// The sums of a tile: two blocks of 64 rows.
using Sums = float[2][tile_n / 2];

__device__ inline void clear(Sums& sums) {
#pragma unroll
  for (int i = 0; i < tile_n; ++i) sums[i / (tile_n / 2)][i % (tile_n / 2)] = 0;
}

/// Describes 16 of a stage's 64 summed elements of the operand that starts at `address`.
template <Major major> __device__ std::uint64_t describe_slice(std::uint32_t address, int slice, int bytes_of_half) {
  constexpr int rows_of_half = tile_k / 2, row_bytes = 128;
  if constexpr (major == Major::summed) return describe(address + slice * 32, 0);
  return describe(address + slice / 2 * bytes_of_half + slice % 2 * 16 * row_bytes, rows_of_half * row_bytes);
}

/// Starts the products of one stage, adding to the sums if they are to be kept.
template <Form form> __device__ void multiply(const Stage& stage, bool keep, Sums& sums) {
  // The next 64 rows of a: the other half, or the next piece.
  constexpr int next_rows = a_major<form> == Major::summed ? half_bytes<tile_m> : tile_k / 2 * 128;
  const std::uint32_t a = shared_address(stage.a), b = shared_address(stage.b);
#pragma unroll
  for (int slice = 0; slice < tile_k / 16; ++slice) {
    const std::uint64_t b_slice = describe_slice<b_major<form>>(b, slice, half_bytes<tile_n>);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const std::uint64_t a_slice = describe_slice<a_major<form>>(a + i * next_rows, slice, half_bytes<tile_m>);
      Multiply<tile_n>::add<a_major<form>, b_major<form>>(sums[i], a_slice, b_slice, keep || slice > 0);
    }
  }
  commit_products();
}

/// Clears the summed rows from `count` on, which are the next expert's or nobody's, in both operands of a stage.
__device__ inline void clear_rows(Stage& stage, int count, int group) {
  constexpr int rows_of_half = tile_k / 2, row_bytes = 128, piece_bytes = rows_of_half * row_bytes;
  const int thread = static_cast<int>(threadIdx.x) % group_threads;
  auto* bytes = reinterpret_cast<unsigned char*>(&stage);
  constexpr int a_pieces = 2 * tile_m / piece, pieces = a_pieces + 2 * tile_n / piece;
  for (int i = 0; i < pieces; ++i) {
    const int half = i < a_pieces ? i / (a_pieces / 2) : (i - a_pieces) / (tile_n / piece);
    const int kept = min(max(count - half * rows_of_half, 0), rows_of_half) * row_bytes;
    for (int at = kept + thread * 16; at < piece_bytes; at += group_threads * 16)
      *reinterpret_cast<uint4*>(bytes + i * piece_bytes + at) = uint4{};
  }
  fence_shared_writes();
  synchronise_threads(1 + group, group_threads);
}

}  // namespace moesaic::cuda::hopper
