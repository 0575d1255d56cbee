// Grouped products on Hopper. A block is a producer, which has the copy engine fill a ring of stages in shared memory,
// and two groups of four warps that take turns: while one multiplies its tile, the other stores the one before
// (ping-pong). Two blocks, a cluster, take neighbouring tiles and fetch the operand that both need once, half each.
// Blocks are as many as multiprocessors and walk over all tiles of all experts.
#include "grouped_gemm_variants.hpp"
#include "grouped_output.cuh"
#include "grouped_stages.cuh"
#include "grouped_tiles.cuh"
#include "moesaic/tensor/cuda_memory.hpp"

#include <algorithm>

namespace moesaic::cuda {
namespace {

using namespace hopper;

constexpr int block_threads = 3 * group_threads;
constexpr int producer_registers = 24, consumer_registers = 240;

struct Shared {
  Stage stages_[stages];
  OutputParts output[2 * group_threads / 32];
  Barrier full[stages], empty[stages];
  int table[];
};

using Table = TileTable<tile_m, tile_n>;

/// Body(tile, its number in this block's sequence) for the tiles of this block, in order.
template <class Body> __device__ void for_tiles(const Table& table, const Body& body) {
  const int rank = static_cast<int>(rank_in_cluster()), clusters = static_cast<int>(gridDim.x / 2);
  int expert = 0, number = 0;
  for (int pair = static_cast<int>(blockIdx.x / 2); pair < table.count(); pair += clusters, ++number) {
    const Tile tile = table.find(pair, rank, expert);
    expert = tile.expert;
    body(tile, number);
  }
}

template <Form form>
__device__ void produce(const CUtensorMap& a_map, const CUtensorMap& b_map, const Table& table, Shared& shared) {
  const int rank = static_cast<int>(rank_in_cluster());
  Ring ring;
  for_tiles(table, [&](const Tile& tile, int) {
    const bool by_rows = form == Form::weight_gradient;
    const int a_outer = by_rows ? tile.row : tile.rows.begin + tile.row, first = by_rows ? tile.rows.begin : 0;
    const int b_matrix = by_rows ? 0 : tile.expert, steps = table.steps<tile_k>(tile.rows);
    for (int step = 0; step < steps; ++step, ring.advance()) {
      Stage& stage = shared.stages_[ring.stage];
      Barrier& full = shared.full[ring.stage];
      wait(shared.empty[ring.stage], ring.parity ^ 1);
      arrive_expecting(full, sizeof(Stage));
      fetch<a_major<form>, tile_m>(a_map, !tile.share_b, rank, a_outer, first, 0, step, stage.a, full);
      fetch<b_major<form>, tile_n>(b_map, tile.share_b, rank, tile.column, first, b_matrix, step, stage.b, full);
    }
  });
}

/// The two groups multiply in turns: the ring's phases must be waited for in order.
__device__ void wait_for_turn(int group) { synchronise_threads(3 + group, 2 * group_threads); }
__device__ void give_turn_to(int group) { arrive_threads(3 + group, 2 * group_threads); }

/// Lets both blocks of the cluster refill the stage: each warp of the group arrives once at each.
__device__ void release(Barrier& empty) {
  if (threadIdx.x % 32 < 2) arrive_at(empty, threadIdx.x % 32);
}

/// Multiplies the tile's operands as they arrive; with `add` the sums go on from what they hold.
template <Form form, bool add>
__device__ void multiply_tile(const Tile& tile, int steps, int group, Ring& ring, Shared& shared, Sums& sums) {
  int previous = 0;
  wait_for_turn(group);
  if (steps == 0) give_turn_to(1 - group);
  for (int step = 0; step < steps; ++step, ring.advance()) {
    Stage& stage = shared.stages_[ring.stage];
    wait(shared.full[ring.stage], ring.parity);
    const int left = tile.rows.count() - step * tile_k;
    if (form == Form::weight_gradient && left < tile_k) clear_rows(stage, left, group);
    begin_products();
    multiply<form>(stage, add || step > 0, sums);
    if (step + 1 == steps) give_turn_to(1 - group);
    if (step > 0) {
      wait_for_products<1>();
      release(shared.empty[previous]);
    }
    previous = ring.stage;
  }
  wait_for_products<0>();
  if (steps > 0) release(shared.empty[previous]);
}

template <Form form, class Out, bool add>
__device__ void consume(const Table& table, const Output<Out>& out, std::int64_t expert_stride, Shared& shared) {
  const int warp = static_cast<int>(threadIdx.x) / 32 - 4, group = warp / 4;
  Ring ring;
  if (group == 1) give_turn_to(0);
  for_tiles(table, [&](const Tile& tile, int number) {
    const int steps = table.steps<tile_k>(tile.rows);
    if (number % 2 != group) return ring.advance(steps);
    Output<Out> matrix = out;
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
    multiply_tile<form, add>(tile, steps, group, ring, shared, sums);
#pragma unroll
    for (int i = 0; i < 2; ++i)
      store_rows(sums[i], matrix, row + 64 * i, tile.column, part_of<Out>(shared.output[warp]));
  });
}

template <Form form, class Out, bool add>
__global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(block_threads, 1)
    grouped_gemm_kernel(const __grid_constant__ CUtensorMap a_map, const __grid_constant__ CUtensorMap b_map,
                        Group group, Output<Out> out, std::int64_t expert_stride) {
  extern __shared__ __align__(1024) unsigned char memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  Table table(group, shared.table);
  if (threadIdx.x < 32) {
    table.fill(static_cast<int>(threadIdx.x));
    if (threadIdx.x < stages) {
      initialise(shared.full[threadIdx.x], 1);
      initialise(shared.empty[threadIdx.x], 2 * group_threads / 32);
    }
    publish_barriers();
  }
  __syncthreads();
  synchronise_cluster();
  if (threadIdx.x < group_threads) {
    give_registers<producer_registers>();
    if (threadIdx.x == 0) produce<form>(a_map, b_map, table, shared);
    __syncwarp();
  } else {
    take_registers<consumer_registers>();
    consume<form, Out, add>(table, out, expert_stride, shared);
  }
  __syncthreads();
  synchronise_cluster();  // Until then the other block may write here.
}

int count_blocks() {
  int device = 0, multiprocessors = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  check_cuda(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
             "cudaDeviceGetAttribute");
  return multiprocessors / 2 * 2;
}

template <Form form, class Out, bool add>
void launch(const OperatorContext& context, ConstView a, ConstView b, const Group& group, const Output<Out>& out,
            std::int64_t expert_stride) {
  const auto kernel = grouped_gemm_kernel<form, Out, add>;
  const std::size_t bytes = sizeof(Shared) + Table::bytes(group.experts);
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
             "cudaFuncSetAttribute");
  const CUtensorMap a_map = make_tensor_map(a, half_box(a_major<form>, tile_m));
  const CUtensorMap b_map = make_tensor_map(b, half_box(b_major<form>, tile_n));
  kernel<<<static_cast<unsigned>(count_blocks()), block_threads, bytes, cuda_stream(context.stream)>>>(
      a_map, b_map, group, out, expert_stride);
  check_cuda(cudaGetLastError(), "the grouped product's kernel for Hopper");
}

Group group_of(ConstView offsets, std::int64_t outer, std::int64_t width, std::int64_t summed) {
  return {offsets.data<std::int64_t>(), static_cast<int>(offsets.size() - 1), static_cast<int>(outer),
          static_cast<int>(width), static_cast<int>(summed)};
}

template <Form form>
void multiply_rows(const OperatorContext& context, ConstView in, ConstView weights, ConstView offsets, View out) {
  const Output<bf16> output{out.data<bf16>(), out.stride(0), 0, static_cast<int>(out.extent(1))};
  launch<form, bf16, false>(context, in, weights, group_of(offsets, -1, out.extent(1), in.extent(1)), output, 0);
}

template <class Out, bool add>
void multiply_gradients(const OperatorContext& context, ConstView output_gradient, ConstView in, ConstView offsets,
                        View gradient) {
  const Output<Out> output{gradient.data<Out>(), gradient.stride(1), static_cast<int>(gradient.extent(1)),
                           static_cast<int>(gradient.extent(2))};
  launch<Form::weight_gradient, Out, add>(context, output_gradient, in,
                                          group_of(offsets, gradient.extent(1), gradient.extent(2), -1), output,
                                          gradient.stride(0));
}

bool aligned_matrix(const ConstView& matrix) {
  bool fits = aligned(matrix.raw(), 16) && matrix.extent(matrix.rank() - 1) % piece == 0 && matrix.size() > 0;
  for (int i = 0; i + 1 < matrix.rank(); ++i) fits = fits && matrix.stride(i) * size_of(matrix.dtype()) % 16 == 0;
  return fits && matrix.extent(matrix.rank() - 2) < std::int64_t{1} << 31;
}

}  // namespace

bool hopper_grouped_gemm_fits(std::initializer_list<ConstView> operands, std::int64_t experts) {
  constexpr std::size_t shared_memory = 227 << 10;
  return std::all_of(operands.begin(), operands.end(), aligned_matrix) &&
         sizeof(Shared) + Table::bytes(experts) <= shared_memory;
}

void hopper_grouped_gemm(const OperatorContext& context, Transpose transpose_weights, ConstView in, ConstView weights,
                         ConstView offsets, View out) {
  if (transpose_weights == Transpose::yes) return multiply_rows<Form::forward>(context, in, weights, offsets, out);
  multiply_rows<Form::input_gradient>(context, in, weights, offsets, out);
}

void hopper_grouped_gemm_weight_gradient(const OperatorContext& context, ConstView output_gradient, ConstView in,
                                         ConstView offsets, double beta, View gradient) {
  const auto run = [&]<class Out>(Out) {
    if (beta == 0) return multiply_gradients<Out, false>(context, output_gradient, in, offsets, gradient);
    multiply_gradients<Out, true>(context, output_gradient, in, offsets, gradient);
  };
  gradient.dtype() == DType::f32 ? run(float{}) : run(bf16{});
}

}  // namespace moesaic::cuda
