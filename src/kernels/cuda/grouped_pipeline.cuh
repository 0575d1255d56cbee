#pragma once
/// How the blocks of a grouped product on Hopper work. A block is a producer, which has the copy engine fill a ring of
/// stages in shared memory, and two groups of four warps that take turns: while one multiplies its tile, the other
/// stores the one before (ping-pong). Two blocks, a cluster, take neighbouring tiles and fetch the operand that both
/// need once, half each. Blocks are as many as multiprocessors and walk over all tiles of all experts.

#include "grouped_stages.cuh"
#include "grouped_tiles.cuh"

#include <cstddef>

namespace moesaic::cuda::hopper {

inline constexpr int block_threads = 3 * group_threads, consumer_warps = 2 * group_threads / 32;
/// Registers of a thread where one thread produces, and where its whole group does.
inline constexpr int producer_registers = 24, consumer_registers = 240;
inline constexpr int gathering_registers = 40, consumer_registers_beside = 232;

/// Bytes of shared memory of a block, and of those what a kernel may take beside its table of tiles.
inline constexpr std::size_t shared_memory = 227 << 10, shared_memory_beside_table = 222 << 10;

using Tiles = TileTable<tile_m, tile_n>;

/// Body(tile, its number in this block's sequence) for the tiles of this block, in order.
template <class Table, class Body> __device__ void for_tiles(const Table& table, const Body& body) {
  const int rank = static_cast<int>(rank_in_cluster()), clusters = static_cast<int>(gridDim.x / 2);
  int expert = 0, number = 0;
  for (int pair = static_cast<int>(blockIdx.x / 2); pair < table.count(); pair += clusters, ++number) {
    const Tile tile = table.find(pair, rank, expert);
    expert = tile.expert;
    body(tile, number);
  }
}

/// A ring of stages, each with a barrier that ends a phase when it is full and one when both groups have left it.
template <int count> struct StageRing {
  Stage stages_[count];
  Barrier full[count], empty[count];

  using Position = RingOf<count>;

  /// Called by one warp, before publish_barriers(). `producers`: threads that arrive at a full stage.
  __device__ void initialise_barriers(int producers = 1) {
    if (static_cast<int>(threadIdx.x) >= count) return;
    initialise(full[threadIdx.x], producers);
    initialise(empty[threadIdx.x], consumer_warps);
  }
};

/// The producer's one thread. `policy`: a CachePolicy for the operands, or none.
template <Form form, class Stages, class... Policy>
__device__ void produce(const CUtensorMap& a_map, const CUtensorMap& b_map, const Tiles& table, Stages& stages,
                        Policy... policy) {
  const int rank = static_cast<int>(rank_in_cluster());
  typename Stages::Position ring;
  for_tiles(table, [&](const Tile& tile, int) {
    const bool by_rows = form == Form::weight_gradient;
    const int a_outer = by_rows ? tile.row : tile.rows.begin + tile.row, first = by_rows ? tile.rows.begin : 0;
    const int b_matrix = by_rows ? 0 : tile.expert, steps = table.steps<tile_k>(tile.rows);
    for (int step = 0; step < steps; ++step, ring.advance()) {
      Stage& stage = stages.stages_[ring.stage];
      Barrier& full = stages.full[ring.stage];
      wait(stages.empty[ring.stage], ring.parity ^ 1);
      arrive_expecting(full, sizeof(Stage));
      fetch<a_major<form>, tile_m>(a_map, !tile.share_b, rank, a_outer, first, 0, step, stage.a, full, policy...);
      fetch<b_major<form>, tile_n>(b_map, tile.share_b, rank, tile.column, first, b_matrix, step, stage.b, full,
                                   policy...);
    }
  });
}

/// The two groups multiply in turns: the ring's phases must be waited for in order.
__device__ inline void wait_for_turn(int group) { synchronise_threads(3 + group, 2 * group_threads); }
__device__ inline void give_turn_to(int group) { arrive_threads(3 + group, 2 * group_threads); }

/// Lets both blocks of the cluster refill the stage: each warp of the group arrives once at each.
__device__ inline void release(Barrier& empty) {
  if (threadIdx.x % 32 < 2) arrive_at(empty, threadIdx.x % 32);
}

/// Multiplies the tile's operands as they arrive; with `add` the sums go on from what they hold, with `gathered` threads
/// have copied them, not the copy engine alone.
template <Form form, bool add, bool gathered = false, class Stages>
__device__ void multiply_tile(const Tile& tile, int steps, int group, typename Stages::Position& ring, Stages& stages,
                              Sums& sums) {
  int previous = 0;
  wait_for_turn(group);
  if (steps == 0) give_turn_to(1 - group);
  for (int step = 0; step < steps; ++step, ring.advance()) {
    Stage& stage = stages.stages_[ring.stage];
    wait(stages.full[ring.stage], ring.parity);
    if constexpr (gathered) fence_shared_writes();
    const int left = tile.rows.count() - step * tile_k;
    if (form == Form::weight_gradient && left < tile_k) clear_rows(stage, left, group);
    begin_products();
    multiply<form>(stage, add || step > 0, sums);
    if (step + 1 == steps) give_turn_to(1 - group);
    if (step > 0) {
      wait_for_products<1>();
      release(stages.empty[previous]);
    }
    previous = ring.stage;
  }
  wait_for_products<0>();
  if (steps > 0) release(stages.empty[previous]);
}

/// Producer() in one thread, or in its whole group, consumer(warp) in the warps of both groups, with registers moved to
/// these; nobody leaves while the other block may still write here.
template <bool whole_group = false, class Producer, class Consumer>
__device__ void run_groups(const Producer& producer, const Consumer& consumer) {
  __syncthreads();
  synchronise_cluster();
  if (threadIdx.x < group_threads) {
    give_registers<whole_group ? gathering_registers : producer_registers>();
    if (whole_group || threadIdx.x == 0) producer();
    __syncwarp();
  } else {
    take_registers<whole_group ? consumer_registers_beside : consumer_registers>();
    consumer(static_cast<int>(threadIdx.x) / 32 - 4);
  }
  __syncthreads();
  synchronise_cluster();
}

}  // namespace moesaic::cuda::hopper
