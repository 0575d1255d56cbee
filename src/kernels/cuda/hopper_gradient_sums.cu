// Weight gradients in f32 of grouped products on Hopper (grouped_pipeline.cuh, gradient_boxes.cuh), with both operands in
// expert order or one of them gathered from tokens (gathered_gradient.cuh).
#include "expert_variants.hpp"
#include "gathered_gradient.cuh"
#include "gradient_boxes.cuh"
#include "grouped_gemm_variants.hpp"
#include "grouped_launch.cuh"

namespace moesaic::cuda {
namespace {

using namespace hopper;

template <bool add> struct Shared {
  StageRing<add ? stages - 1 : stages> ring;  // larger boxes in place of a stage
  WarpBoxes<add> boxes[consumer_warps];
  Barrier loaded[consumer_warps][WarpBoxes<add>::count];
  int table[];
};

/// An expert without rows gets zeros, or is left alone.
template <bool add, bool gathered, class Table>
__device__ void consume(const Table& table, const CUtensorMap& gradients, Shared<add>& shared, int warp) {
  const int group = warp / 4;
  GradientWriter<add> writer(gradients, shared.boxes[warp], shared.loaded[warp]);
  typename decltype(Shared<add>::ring)::Position ring;
  if (group == 1) give_turn_to(0);
  for_tiles(table, [&](const Tile& tile, int number) {
    const int steps = table.template steps<tile_k>(tile.rows);
    if (number % 2 != group) return ring.advance(steps);
    const bool stays = add && steps == 0;
    Sums sums;
    if (steps == 0) clear(sums);
    if (!stays) writer.begin(tile, tile.row + warp % 4 * 16);
    multiply_tile<Form::weight_gradient, false, gathered>(tile, steps, group, ring, shared.ring, sums);
    if (!stays) writer.finish(sums);
  });
  writer.end();
}

template <bool add, class Table> __device__ void begin(Table& table, Shared<add>& shared, int producers) {
  if (threadIdx.x >= 32) return;
  table.fill(static_cast<int>(threadIdx.x));
  shared.ring.initialise_barriers(producers);
  if (threadIdx.x < consumer_warps * WarpBoxes<add>::count) initialise(shared.loaded[0][threadIdx.x], 1);
  publish_barriers();
}

/// Operands are read by the tiles of a whole row or column, gradients once: L2 is told.
template <bool add>
__global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(block_threads, 1)
    gradient_sums_kernel(const __grid_constant__ CUtensorMap a_map, const __grid_constant__ CUtensorMap b_map,
                         const __grid_constant__ CUtensorMap gradients, Group group) {
  extern __shared__ __align__(1024) unsigned char memory[];
  Shared<add>& shared = *reinterpret_cast<Shared<add>*>(memory);
  Tiles table(group, shared.table);
  begin(table, shared, 1);
  run_groups([&] { produce<Form::weight_gradient>(a_map, b_map, table, shared.ring, evict_last()); },
             [&](int warp) { consume<add, false>(table, gradients, shared, warp); });
}

/// The same of rows of tokens: pairs of tiles share the other operand, which the copy engine fetches for both.
template <bool add, TokenSide side>
__global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(block_threads, 1)
    gathered_gradient_sums_kernel(const __grid_constant__ CUtensorMap other_map,
                                  const __grid_constant__ CUtensorMap gradients, Group group, TokenRows tokens) {
  extern __shared__ __align__(1024) unsigned char memory[];
  Shared<add>& shared = *reinterpret_cast<Shared<add>*>(memory);
  constexpr bool gathers_a = side == TokenSide::output_gradient;
  TileTable<tile_m, tile_n, !gathers_a> table(group, shared.table);
  begin(table, shared, 1 + group_threads);
  const int width = gathers_a ? group.outer : group.width;
  run_groups<true>([&] { produce_gathered<side>(other_map, tokens, width, table, shared.ring); },
                   [&](int warp) { consume<add, true>(table, gradients, shared, warp); });
}

template <bool add>
void launch(const OperatorContext& context, ConstView output_gradient, ConstView in, ConstView offsets, View gradient) {
  static_assert(sizeof(Shared<add>) <= shared_memory_beside_table);
  launch_grouped(gradient_sums_kernel<add>, sizeof(Shared<add>), gradient.extent(0), context,
                 make_tensor_map(output_gradient, half_box(a_major<Form::weight_gradient>, tile_m)),
                 make_tensor_map(in, half_box(b_major<Form::weight_gradient>, tile_n)),
                 make_tensor_map(gradient, WarpBoxes<add>::shape), group_of_gradients(offsets, gradient));
}

template <bool add, TokenSide side>
void launch_gathered(const OperatorContext& context, ConstView tokens, ConstView slots, ConstView slot_token,
                     ConstView offsets, View gradient) {
  constexpr int other_tile = side == TokenSide::output_gradient ? tile_n : tile_m;
  launch_grouped(gathered_gradient_sums_kernel<add, side>, sizeof(Shared<add>), gradient.extent(0), context,
                 make_tensor_map(slots, half_box(Major::outer, other_tile)),
                 make_tensor_map(gradient, WarpBoxes<add>::shape), group_of_gradients(offsets, gradient),
                 token_rows(tokens, slot_token));
}

}  // namespace

void hopper_gradient_sums(const OperatorContext& context, ConstView output_gradient, ConstView in, ConstView offsets,
                          double beta, View gradient) {
  if (beta == 0) return launch<false>(context, output_gradient, in, offsets, gradient);
  launch<true>(context, output_gradient, in, offsets, gradient);
}

void hopper_expert_weight_gradient(const OperatorContext& context, TokenSide side, ConstView output_gradient,
                                   ConstView in, ConstView slot_token, ConstView offsets, double beta, View gradient) {
  if (side == TokenSide::output_gradient) {
    const auto variant = beta == 0 ? launch_gathered<false, TokenSide::output_gradient>
                                   : launch_gathered<true, TokenSide::output_gradient>;
    return variant(context, output_gradient, in, slot_token, offsets, gradient);
  }
  const auto variant = beta == 0 ? launch_gathered<false, TokenSide::in> : launch_gathered<true, TokenSide::in>;
  variant(context, in, output_gradient, slot_token, offsets, gradient);
}

}  // namespace moesaic::cuda
