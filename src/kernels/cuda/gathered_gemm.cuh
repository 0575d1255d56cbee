#pragma once
/// Grouped products on Hopper whose rows are gathered while they are multiplied, with work of the caller's on the sums
/// before they leave the chip. A block is a producer group and two consumer groups of four warps each:
///   producer   all its threads copy 16 bytes at a time of the tile's rows, found by index, into the swizzled pattern that
///              the copy engine would have made; one has the copy engine fetch the weights. Both count at the stage's
///              barrier, so that it knows when a stage is full, however its parts came;
///   consumers  take turns, as in grouped_pipeline.cuh: while one multiplies, the other finishes its tile before.
/// Two blocks, a cluster, take neighbouring tiles and fetch the weights that both need once, half each.

#include "grouped_output.cuh"
#include "grouped_pipeline.cuh"

#include <cstdint>

namespace moesaic::cuda::hopper::gathered {

struct Shared {
  Stage stages_[stages];
  OutputParts output[consumer_warps];
  Barrier full[stages], empty[stages];
  int table[];
};

/// Rows of all tokens; those of slots are found by index.
struct TokenRows {
  const bf16* data;
  std::uint32_t chunks;  ///< of 16 bytes from one to the next
  const std::int32_t* slot_token;
};

/// Copies parts of a tile's rows: this thread's are 16 bytes of eight rows.
class Gather {
 public:
  __device__ Gather(const TokenRows& rows, const Tile& tile)
      : data_(reinterpret_cast<const uint4*>(rows.data)), chunk_(threadIdx.x % chunks), row_(threadIdx.x / chunks) {
#pragma unroll
    for (int i = 0; i < copies; ++i) {  // Past the last row the last one stands in: nothing of it is kept.
      const int slot = min(tile.rows.begin + tile.row + static_cast<int>(row_) + i * rows_apart, tile.rows.end - 1);
      begin_[i] = static_cast<std::uint32_t>(rows.slot_token[slot]) * rows.chunks + chunk_;
    }
  }

  /// Starts the copies of step `step` to a stage's operand and has them count at `full`, once a thread.
  __device__ void copy(int step, void* operand, Barrier& full) const {
    uint4* const to = static_cast<uint4*>(operand) + row_ * chunks + (chunk_ ^ row_ % 8);  // the 128-byte swizzle
#pragma unroll
    for (int i = 0; i < copies; ++i) copy_vector(data_ + begin_[i] + step * chunks, to + i * rows_apart * chunks);
    arrive_when_copied(full);
  }

 private:
  static constexpr int chunks = tile_k * sizeof(bf16) / sizeof(uint4);
  static constexpr int rows_apart = group_threads / chunks, copies = tile_m / rows_apart;

  const uint4* data_;
  std::uint32_t chunk_, row_, begin_[copies];
};

/// Weights of one step: this block's half for both blocks, or both halves.
template <class Work>
__device__ void fetch_weights(const CUtensorMap& map, const Work& work, const Tile& tile, int step, Stage& stage,
                              Barrier& full) {
  const int rank = static_cast<int>(rank_in_cluster());
  if (tile.share_b) return copy_box_to_both(map, work.weights(tile, step, rank), stage.b[rank], full);
#pragma unroll
  for (int half = 0; half < 2; ++half) copy_box(map, work.weights(tile, step, half), stage.b[half], full);
}

template <class Work, class Table>
__device__ void produce(const CUtensorMap& map, const TokenRows& rows, const Work& work, int steps, const Table& table,
                        Shared& shared) {
  Ring ring;
  for_tiles(table, [&](const Tile& tile, int) {
    const Gather gather(rows, tile);
    for (int step = 0; step < steps; ++step, ring.advance()) {
      Stage& stage = shared.stages_[ring.stage];
      Barrier& full = shared.full[ring.stage];
      wait(shared.empty[ring.stage], ring.parity ^ 1);
      if (threadIdx.x == 0) {
        arrive_expecting(full, sizeof(stage.b));
        fetch_weights(map, work, tile, step, stage, full);
      }
      gather.copy(step, stage.a, full);
    }
  });
}

template <Form form> __device__ void multiply_tile(int steps, int group, Ring& ring, Shared& shared, Sums& sums) {
  int previous = 0;
  wait_for_turn(group);
  for (int step = 0; step < steps; ++step, ring.advance()) {
    wait(shared.full[ring.stage], ring.parity);
    fence_shared_writes();  // what was gathered did not come through the copy engine
    begin_products();
    multiply<form>(shared.stages_[ring.stage], step > 0, sums);
    if (step + 1 == steps) give_turn_to(1 - group);
    if (step > 0) {
      wait_for_products<1>();
      release(shared.empty[previous]);
    }
    previous = ring.stage;
  }
  wait_for_products<0>();
  release(shared.empty[previous]);
}

template <class Work, class Table>
__device__ void consume(const Work& work, int steps, const Table& table, Shared& shared) {
  const int warp = static_cast<int>(threadIdx.x) / 32 - 4, group = warp / 4;
  Ring ring;
  if (group == 1) give_turn_to(0);
  for_tiles(table, [&](const Tile& tile, int number) {
    if (number % 2 != group) return ring.advance(steps);
    Sums sums;
    multiply_tile<Work::form>(steps, group, ring, shared, sums);
#pragma unroll
    for (int i = 0; i < 2; ++i) work.finish(sums[i], tile, tile.row + warp % 4 * 16 + 64 * i, shared.output[warp]);
  });
}

/// Work: `form`, `columns` of the result a tile, weights(tile, step, half): where half of a step's weights lie,
/// finish(sums of 16 rows, tile, their first row, scratch).
template <class Work>
__global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(block_threads, 1)
    gathered_gemm_kernel(const __grid_constant__ CUtensorMap weights, Group group, TokenRows rows, Work work) {
  extern __shared__ __align__(1024) unsigned char memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  TileTable<tile_m, Work::columns> table(group, shared.table);
  if (threadIdx.x < 32) {
    table.fill(static_cast<int>(threadIdx.x));
    if (threadIdx.x < stages) {
      initialise(shared.full[threadIdx.x], 1 + group_threads);
      initialise(shared.empty[threadIdx.x], consumer_warps);
    }
    publish_barriers();
  }
  __syncthreads();
  synchronise_cluster();
  const int steps = group.summed / tile_k;
  if (threadIdx.x < group_threads) {
    give_registers<producer_registers>();
    produce(weights, rows, work, steps, table, shared);
  } else {
    take_registers<consumer_registers>();
    consume(work, steps, table, shared);
  }
  __syncthreads();
  synchronise_cluster();  // Until then the other block may write here.
}

}  // namespace moesaic::cuda::hopper::gathered
