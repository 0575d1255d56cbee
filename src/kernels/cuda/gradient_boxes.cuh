#pragma once
/// Weight gradients in f32 on their way to memory, added to what is there or over it. L2 limits the kernel (operands,
/// old and new gradients all pass through it) and memory wants neighbouring bytes at one time. So a warp moves boxes of
/// 8 rows, from one end of the rows to the other, and has the copy engine bring the first old gradients while the
/// products are under way; addition is in shared memory, in place: one sum an element, in one order.

#include "grouped_stages.cuh"
#include "grouped_tiles.cuh"
#include "tensor_map.hpp"

namespace moesaic::cuda::hopper {

/// The boxes that one warp has under way. With more of them everything is slower: they hold up the operands.
template <bool add> struct WarpBoxes {
  static constexpr int count = add ? 3 : 2, rows = 8, pieces = add ? 2 : 1, piece_columns = 32;
  static constexpr Box shape{rows, pieces};
  alignas(1024) unsigned char bytes[count][pieces][rows][128];
};

/// Called by every warp of a group for each of its tiles: begin, the products, finish.
template <bool add> class GradientWriter {
 public:
  using Boxes = WarpBoxes<add>;

  __device__ GradientWriter(const CUtensorMap& gradients, Boxes& boxes, Barrier* loaded)
      : gradients_(gradients), boxes_(boxes), loaded_(loaded), policy_(evict_first()) {}

  /// `row`: the first of the warp's 16 rows of the tile's upper half; the lower half's lie 64 below.
  __device__ void begin(const Tile& tile, int row) {
    first_ = {row, tile.column / Boxes::piece_columns, tile.expert};
    if (!add || !leads()) return;
    wait_for_sends<0>();
#pragma unroll
    for (int n = 0; n < Boxes::count; ++n) load(n);
  }

  __device__ void finish(const Sums& sums) {
#pragma unroll
    for (int n = 0; n < boxes_of_tile; ++n) {
      wait_for_box(n);
      fill(sums[n / boxes_of_block], n % boxes_of_block, boxes_.bytes[n % Boxes::count]);
      fence_shared_writes();
      __syncwarp();
      if (leads()) send(n);
    }
    parity_ ^= fills_of_tile % 2;
  }

  /// After the last tile: shared memory must stay until it has been read.
  __device__ void end() const {
    if (leads()) wait_for_sends<0>();
  }

 private:
  static constexpr int boxes_of_row = tile_n / (Boxes::pieces * Boxes::piece_columns);
  static constexpr int boxes_of_block = 2 * boxes_of_row, boxes_of_tile = 2 * boxes_of_block;
  static constexpr int fills_of_tile = boxes_of_tile / Boxes::count;
  static_assert(boxes_of_tile % Boxes::count == 0);

  __device__ static bool leads() { return threadIdx.x % 32 == 0; }

  __device__ Place place_of_box(int n) const {
    const int row = n / boxes_of_block * 64 + n / boxes_of_row % 2 * Boxes::rows;
    return {first_.row + row, first_.piece + n % boxes_of_row * Boxes::pieces, first_.matrix};
  }

  __device__ void load(int n) const {
    Barrier& loaded = loaded_[n % Boxes::count];
    arrive_expecting(loaded, sizeof(boxes_.bytes[0]));
    copy_box(gradients_, place_of_box(n), boxes_.bytes[n % Boxes::count], loaded, policy_);
  }

  /// Until the box may be filled: what is there has arrived, or what was there before has been read.
  __device__ void wait_for_box(int n) const {
    if constexpr (add) {
      wait(loaded_[n % Boxes::count], parity_ ^ (static_cast<std::uint32_t>(n / Boxes::count) & 1));
    } else {
      if (leads()) wait_for_sends<Boxes::count - 1>();
      __syncwarp();
    }
  }

  /// The box before, if its turn comes again in this tile, is loaded once it has been read.
  __device__ void send(int n) const {
    send_box(gradients_, place_of_box(n), boxes_.bytes[n % Boxes::count], policy_);
    if (!add || n == 0 || n - 1 + Boxes::count >= boxes_of_tile) return;
    wait_for_sends<1>();
    load(n - 1 + Boxes::count);
  }

  /// Box n of a block's: lanes hold pairs of sums (wgmma.cuh), which lie swizzled in the box. Lanes of odd rows go
  /// through a piece in another order, so that no two of a half warp meet in a bank.
  __device__ static void fill(const float (&sums)[tile_n / 2], int n, unsigned char (&box)[Boxes::pieces][8][128]) {
    const int lane = static_cast<int>(threadIdx.x) % 32, row = lane / 4;
    const bool odd = row % 2 != 0;
    const int first = n % boxes_of_row * (Boxes::pieces * 16) + n / boxes_of_row * 2;
#pragma unroll
    for (int i = 0; i < Boxes::pieces * 4; ++i) {
      const int chunk = 2 * (odd ? i % 4 ^ 2 : i % 4) + lane % 4 / 2;
      const float *even_sums = sums + first + 4 * i, *odd_sums = sums + first + 4 * (i ^ 2);
      auto* const to = reinterpret_cast<float2*>(&box[i / 4][row][(chunk ^ row) * 16 + lane % 2 * 8]);
      const float2 before = add ? *to : float2{0, 0};
      *to = {before.x + (odd ? odd_sums[0] : even_sums[0]), before.y + (odd ? odd_sums[1] : even_sums[1])};
    }
  }

  const CUtensorMap& gradients_;
  Boxes& boxes_;
  Barrier* loaded_;
  CachePolicy policy_;
  Place first_{};
  std::uint32_t parity_ = 0;
};

}  // namespace moesaic::cuda::hopper
