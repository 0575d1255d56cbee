#pragma once
/// Grouped products on Hopper whose rows are gathered while they are multiplied, with work of the caller's on the sums
/// before they leave the chip. A block is a producer group and two consumer groups of four warps each:
///   producer   all its threads copy 16 bytes at a time of the tile's rows, found by index, into the swizzled pattern that
///              the copy engine would have made; one has the copy engine fetch the weights. Both count at the stage's
///              barrier, so that it knows when a stage is full, however its parts came;
///   consumers  take turns, as in grouped_pipeline.cuh: while one multiplies, the other finishes its tile before.
/// Two blocks, a cluster, take neighbouring tiles and fetch the weights that both need once, half each.
/// Nothing may spill: next to this much shared memory the first cache is so small that what the work on sums moves
/// through it evicts spilled registers, and the copies of the producers with them wait for the second.

#include "grouped_pipeline.cuh"
#include "token_rows.cuh"

#include <cstdint>

namespace moesaic::cuda::hopper::gathered {

/// One stage fewer than plain products have: its memory is the caller's, and as many tiles are multiplied in a second.
inline constexpr int stages = hopper::stages - 1;

/// Position in the ring: all steps so far, one register.
struct Ring {
  static_assert(stages == 4);
  std::uint32_t steps = 0;
  __device__ std::uint32_t stage() const { return steps % stages; }
  __device__ std::uint32_t parity() const { return steps / stages % 2; }
  __device__ void advance(int count = 1) { steps += count; }
};

template <class Work> struct Shared {
  Stage stages_[stages];
  typename Work::Scratch scratch[consumer_warps];
  Barrier full[stages], empty[stages];
  int table[];
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
                        Shared<Work>& shared) {
  Ring ring;
  for_tiles(table, [&](const Tile& tile, int) {
    const Gather gather(rows, tile);
    for (int step = 0; step < steps; ++step, ring.advance()) {
      Stage& stage = shared.stages_[ring.stage()];
      Barrier& full = shared.full[ring.stage()];
      wait(shared.empty[ring.stage()], ring.parity() ^ 1);
      if (threadIdx.x == 0) {
        arrive_expecting(full, sizeof(stage.b));
        fetch_weights(map, work, tile, step, stage, full);
      }
      gather.copy(step, stage.a, full);
    }
  });
}

/// This warp's number among the consumers; read anew each time, as registers are short.
__device__ inline int consumer_warp() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread / 32 - group_threads / 32;
}
__device__ inline int consumer_group() { return consumer_warp() / (consumer_warps / 2); }

template <class Work> __device__ void multiply_tile(int steps, Ring& ring, Shared<Work>& shared, Sums& sums) {
  std::uint32_t previous = 0;
  wait_for_turn(consumer_group());
  for (int step = 0; step < steps; ++step, ring.advance()) {
    wait(shared.full[ring.stage()], ring.parity());
    fence_shared_writes();  // what was gathered did not come through the copy engine
    begin_products();
    multiply<Work::form>(shared.stages_[ring.stage()], step > 0, sums);
    if (step + 1 == steps) give_turn_to(1 - consumer_group());
    if (step > 0) {
      wait_for_products<1>();
      release(shared.empty[previous]);
    }
    previous = ring.stage();
  }
  wait_for_products<0>();
  release(shared.empty[previous]);
}

/// All tiles take as many steps, so a group need not look at the other's.
template <class Work, class Table>
__device__ void consume(const Work& work, int steps, const Table& table, Shared<Work>& shared) {
  const int clusters = static_cast<int>(gridDim.x / 2), rank = static_cast<int>(rank_in_cluster());
  Ring ring;
  ring.advance(consumer_group() * steps);
  if (consumer_group() == 1) give_turn_to(0);
  if (threadIdx.x % 32 == 0) shared.scratch[consumer_warp()].expert = 0;
  __syncwarp();
  for (int pair = static_cast<int>(blockIdx.x / 2) + consumer_group() * clusters; pair < table.count();
       pair += 2 * clusters) {
    typename Work::Scratch& scratch = shared.scratch[consumer_warp()];
    const Tile tile = table.find(pair, rank, scratch.expert);
    __syncwarp();
    work.begin(tile, tile.row + consumer_warp() % 4 * 16, scratch);
    Sums sums;
    multiply_tile(steps, ring, shared, sums);
    work.finish(
        sums, [&]() -> auto& { return shared.scratch[consumer_warp()]; });
    ring.advance(steps);
  }
}

/// Moves the sums from `count` on to the front, so that a loop need not be unrolled to reach them.
template <int count> __device__ void shift(Sums& sums) {
#pragma unroll
  for (int i = 0; i + count < tile_n; ++i) {
    const int from = i + count;
    sums[i / (tile_n / 2)][i % (tile_n / 2)] = sums[from / (tile_n / 2)][from % (tile_n / 2)];
  }
}

/// Work: `form`, `columns` of the result a tile, weights(tile, step, half): where half of a step's weights lie; called by
/// each warp for 16 rows from `row` on and the 16 rows 64 below, with shared memory of its own:
/// begin(tile, row, Scratch) before the products, finish(sums, own) after, where own() is the Scratch; that has the
/// tile's `expert`.
template <class Work>
__global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(block_threads, 1)
    gathered_gemm_kernel(const __grid_constant__ CUtensorMap weights, Group group, TokenRows rows, Work work) {
  extern __shared__ __align__(1024) unsigned char memory[];
  Shared<Work>& shared = *reinterpret_cast<Shared<Work>*>(memory);
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
    give_registers<gathering_registers>();
    produce(weights, rows, work, steps, table, shared);
  } else {
    take_registers<consumer_registers_beside>();
    consume(work, steps, table, shared);
  }
  __syncthreads();
  synchronise_cluster();  // Until then the other block may write here.
}

}  // namespace moesaic::cuda::hopper::gathered
