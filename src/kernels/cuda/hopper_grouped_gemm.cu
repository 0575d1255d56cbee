// Grouped products on Hopper (grouped_pipeline.cuh) with results in bf16.
#include "grouped_gemm_variants.hpp"
#include "grouped_launch.cuh"
#include "grouped_output.cuh"

#include <algorithm>

namespace moesaic::cuda {
namespace {

using namespace hopper;

struct Shared {
  StageRing<stages> ring;
  OutputPart<bf16> output[consumer_warps];
  int table[];
};
static_assert(sizeof(Shared) <= shared_memory_beside_table);

template <Form form, bool add>
__device__ void consume(const Tiles& table, const Output<bf16>& out, std::int64_t expert_stride, Shared& shared,
                        int warp) {
  const int group = warp / 4;
  Ring ring;
  if (group == 1) give_turn_to(0);
  for_tiles(table, [&](const Tile& tile, int number) {
    const int steps = table.steps<tile_k>(tile.rows);
    if (number % 2 != group) return ring.advance(steps);
    Output<bf16> matrix = out;
    if constexpr (form == Form::weight_gradient) {
      matrix.data += tile.expert * expert_stride;
    } else {
      matrix.data += tile.rows.begin * out.stride;
      matrix.rows = tile.rows.count();
    }
    const int row = tile.row + warp % 4 * 16;
    Sums sums;
    if (add || steps == 0) {
#pragma unroll
      for (int i = 0; i < 2; ++i) begin_sums<add>(matrix, row + 64 * i, tile.column, sums[i]);
    }
    multiply_tile<form, add>(tile, steps, group, ring, shared.ring, sums);
#pragma unroll
    for (int i = 0; i < 2; ++i) store_rows(sums[i], matrix, row + 64 * i, tile.column, shared.output[warp]);
  });
}

template <Form form, bool add>
__global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(block_threads, 1)
    grouped_gemm_kernel(const __grid_constant__ CUtensorMap a_map, const __grid_constant__ CUtensorMap b_map,
                        Group group, Output<bf16> out, std::int64_t expert_stride) {
  extern __shared__ __align__(1024) unsigned char memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  Tiles table(group, shared.table);
  if (threadIdx.x < 32) {
    table.fill(static_cast<int>(threadIdx.x));
    shared.ring.initialise_barriers();
    publish_barriers();
  }
  run_groups([&] { produce<form>(a_map, b_map, table, shared.ring); },
             [&](int warp) { consume<form, add>(table, out, expert_stride, shared, warp); });
}

template <Form form, bool add>
void launch(const OperatorContext& context, ConstView a, ConstView b, const Group& group, const Output<bf16>& out,
            std::int64_t expert_stride) {
  launch_grouped(grouped_gemm_kernel<form, add>, sizeof(Shared), group.experts, context,
                 make_tensor_map(a, half_box(a_major<form>, tile_m)),
                 make_tensor_map(b, half_box(b_major<form>, tile_n)), group, out, expert_stride);
}

template <Form form>
void multiply_rows(const OperatorContext& context, ConstView in, ConstView weights, ConstView offsets, View out) {
  const Output<bf16> output{out.data<bf16>(), out.stride(0), 0, static_cast<int>(out.extent(1))};
  launch<form, false>(context, in, weights, group_of(offsets, -1, out.extent(1), in.extent(1)), output, 0);
}

bool aligned_matrix(const ConstView& matrix) {
  bool fits = aligned(matrix.raw(), 16) && matrix.extent(matrix.rank() - 1) % piece == 0 && matrix.size() > 0;
  for (int i = 0; i + 1 < matrix.rank(); ++i) fits = fits && matrix.stride(i) * size_of(matrix.dtype()) % 16 == 0;
  return fits && matrix.extent(matrix.rank() - 2) < std::int64_t{1} << 31;
}

}  // namespace

bool hopper_grouped_gemm_fits(std::initializer_list<ConstView> operands, std::int64_t experts) {
  return std::all_of(operands.begin(), operands.end(), aligned_matrix) &&
         shared_memory_beside_table + Tiles::bytes(experts) <= shared_memory;
}

void hopper_grouped_gemm(const OperatorContext& context, Transpose transpose_weights, ConstView in, ConstView weights,
                         ConstView offsets, View out) {
  if (transpose_weights == Transpose::yes) return multiply_rows<Form::forward>(context, in, weights, offsets, out);
  multiply_rows<Form::input_gradient>(context, in, weights, offsets, out);
}

void hopper_grouped_gemm_weight_gradient(const OperatorContext& context, ConstView output_gradient, ConstView in,
                                         ConstView offsets, double beta, View gradient) {
  if (gradient.dtype() == DType::f32)
    return hopper_gradient_sums(context, output_gradient, in, offsets, beta, gradient);
  const auto variant = beta == 0 ? launch<Form::weight_gradient, false> : launch<Form::weight_gradient, true>;
  const Output<bf16> output{gradient.data<bf16>(), gradient.stride(1), static_cast<int>(gradient.extent(1)),
                            static_cast<int>(gradient.extent(2))};
  variant(context, output_gradient, in, group_of_gradients(offsets, gradient), output, gradient.stride(0));
}

}  // namespace moesaic::cuda
