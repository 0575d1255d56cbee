#pragma once
/// The producers of weight gradients on Hopper of which one operand is gathered from tokens while it is multiplied: all
/// threads of the group copy the rows of slots, found by index, into the pattern that the copy engine would have made; one has
/// the copy engine fetch the other operand. Both count at the stage's barrier.

#include "grouped_pipeline.cuh"
#include "moesaic/kernels/experts.hpp"
#include "token_rows.cuh"

namespace moesaic::cuda::hopper {

/// Copies the parts of gathered rows that belong to a tile: a warp those of 16 of a step's 64 slots. Lanes know the tokens of
/// the 32 slots of two steps, looked up two steps ahead, and ask each other.
template <int outer> class GatherSummed {
 public:
  /// `first`: the tile's first column of the rows, which are `width` long.
  __device__ GatherSummed(const TokenRows& tokens, const Rows& rows, int first, int width)
      : tokens_(tokens), last_(rows.end - 1),
        slot_(rows.begin + warp() * warp_slots + lane() % warp_slots + lane() / warp_slots * tile_k),
        pieces_(min((width - first) / piece, outer / piece)),
        data_(reinterpret_cast<const uint4*>(tokens.data + first) + lane() % row_chunks), next_(look_up()) {}

  /// Called before each even step.
  __device__ void look_ahead() {
    token_ = next_;
    slot_ += 2 * tile_k;
    next_ = look_up();
  }

  /// Starts the copies of step `step` and has them count at `full`, once a thread. Slots past the last one are cleared
  /// before they are multiplied; what lies past the width is left as it is, and so are the results of it.
  __device__ void copy(int step, void* operand, Barrier& full, CachePolicy policy) const {
    const int row = lane() / row_chunks, from_lane = step % 2 * warp_slots + row;
    const uint4* from[copies];
#pragma unroll
    for (int i = 0; i < copies; ++i)
      from[i] = data_ + __shfl_sync(~0u, token_, from_lane + i * rows_at_once) * tokens_.chunks;
    auto* const to = static_cast<uint4*>(operand) + warp() / 2 * (half_bytes<outer> / sizeof(uint4)) +
                     (warp() % 2 * warp_slots + row) * row_chunks;
#pragma unroll
    for (int p = 0; p < outer / piece; ++p) {
      if (p >= pieces_) break;
#pragma unroll
      for (int i = 0; i < copies; ++i) {
        const int r = i * rows_at_once, chunk = lane() % row_chunks ^ (row + r) % 8;  // the 128-byte swizzle
        copy_vector(from[i] + p * row_chunks, to + (p * tile_k / 2 + r) * row_chunks + chunk, policy);
      }
    }
    arrive_when_copied(full);
  }

 private:
  static constexpr int row_chunks = piece / 8, rows_at_once = 32 / row_chunks;  // 16 bytes, 8 elements each
  static constexpr int warp_slots = tile_k / (group_threads / 32), copies = warp_slots / rows_at_once;
  static_assert(2 * warp_slots == 32);

  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }
  __device__ static int warp() { return static_cast<int>(threadIdx.x) / 32; }
  __device__ std::uint32_t look_up() const { return static_cast<std::uint32_t>(tokens_.slot_token[min(slot_, last_)]); }

  const TokenRows& tokens_;
  int last_, slot_, pieces_;
  const uint4* data_;
  std::uint32_t token_ = 0, next_;
};

/// Called by all threads of the producers' group. `width`: length of tokens' rows; `other_map`: of the other operand.
template <TokenSide side, class Table, class Stages>
__device__ void produce_gathered(const CUtensorMap& other_map, const TokenRows& tokens, int width, const Table& table,
                                 Stages& stages) {
  constexpr bool gathers_a = side == TokenSide::output_gradient;
  constexpr Major major = Major::outer;
  const int rank = static_cast<int>(rank_in_cluster());
  const CachePolicy policy = evict_last();
  typename Stages::Position ring;
  for_tiles(table, [&](const Tile& tile, int) {
    const int steps = table.template steps<tile_k>(tile.rows);
    if (steps == 0) return;
    GatherSummed<gathers_a ? tile_m : tile_n> gather(tokens, tile.rows, gathers_a ? tile.row : tile.column, width);
    const auto fill = [&](int step) {
      Stage& stage = stages.stages_[ring.stage];
      Barrier& full = stages.full[ring.stage];
      wait(stages.empty[ring.stage], ring.parity ^ 1);
      if (threadIdx.x == 0) {
        arrive_expecting(full, gathers_a ? sizeof(stage.b) : sizeof(stage.a));
        if constexpr (gathers_a)
          fetch<major, tile_n>(other_map, tile.share_b, rank, tile.column, tile.rows.begin, 0, step, stage.b, full,
                               policy);
        else
          fetch<major, tile_m>(other_map, !tile.share_b, rank, tile.row, tile.rows.begin, 0, step, stage.a, full,
                               policy);
      }
      gather.copy(step, gathers_a ? static_cast<void*>(stage.a) : static_cast<void*>(stage.b), full, policy);
      ring.advance();
    };
    for (int step = 0; step < steps; step += 2) {
      gather.look_ahead();
      fill(step);
      if (step + 1 < steps) fill(step + 1);
    }
  });
}

}  // namespace moesaic::cuda::hopper
