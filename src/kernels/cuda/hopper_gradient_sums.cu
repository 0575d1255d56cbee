// Weight gradients in f32 of grouped products on Hopper (grouped_pipeline.cuh, gradient_boxes.cuh).
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
template <bool add>
__device__ void consume(const Tiles& table, const CUtensorMap& gradients, Shared<add>& shared, int warp) {
  const int group = warp / 4;
  GradientWriter<add> writer(gradients, shared.boxes[warp], shared.loaded[warp]);
  typename decltype(Shared<add>::ring)::Position ring;
  if (group == 1) give_turn_to(0);
  for_tiles(table, [&](const Tile& tile, int number) {
    const int steps = table.steps<tile_k>(tile.rows);
    if (number % 2 != group) return ring.advance(steps);
    const bool stays = add && steps == 0;
    Sums sums;
    if (steps == 0) clear(sums);
    if (!stays) writer.begin(tile, tile.row + warp % 4 * 16);
    multiply_tile<Form::weight_gradient, false>(tile, steps, group, ring, shared.ring, sums);
    if (!stays) writer.finish(sums);
  });
  writer.end();
}

/// Operands are read by the tiles of a whole row or column, gradients once: L2 is told.
template <bool add>
__global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(block_threads, 1)
    gradient_sums_kernel(const __grid_constant__ CUtensorMap a_map, const __grid_constant__ CUtensorMap b_map,
                         const __grid_constant__ CUtensorMap gradients, Group group) {
  extern __shared__ __align__(1024) unsigned char memory[];
  Shared<add>& shared = *reinterpret_cast<Shared<add>*>(memory);
  Tiles table(group, shared.table);
  if (threadIdx.x < 32) {
    table.fill(static_cast<int>(threadIdx.x));
    shared.ring.initialise_barriers();
    if (threadIdx.x < consumer_warps * WarpBoxes<add>::count) initialise(shared.loaded[0][threadIdx.x], 1);
    publish_barriers();
  }
  run_groups([&] { produce<Form::weight_gradient>(a_map, b_map, table, shared.ring, evict_last()); },
             [&](int warp) { consume<add>(table, gradients, shared, warp); });
}

template <bool add>
void launch(const OperatorContext& context, ConstView output_gradient, ConstView in, ConstView offsets, View gradient) {
  static_assert(sizeof(Shared<add>) <= shared_memory_beside_table);
  launch_grouped(gradient_sums_kernel<add>, sizeof(Shared<add>), gradient.extent(0), context,
                 make_tensor_map(output_gradient, half_box(a_major<Form::weight_gradient>, tile_m)),
                 make_tensor_map(in, half_box(b_major<Form::weight_gradient>, tile_n)),
                 make_tensor_map(gradient, WarpBoxes<add>::shape), group_of_gradients(offsets, gradient));
}

}  // namespace

void hopper_gradient_sums(const OperatorContext& context, ConstView output_gradient, ConstView in, ConstView offsets,
                          double beta, View gradient) {
  if (beta == 0) return launch<false>(context, output_gradient, in, offsets, gradient);
  launch<true>(context, output_gradient, in, offsets, gradient);
}

}  // namespace moesaic::cuda
