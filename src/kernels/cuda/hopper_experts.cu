// Two products of experts on Hopper, with rows gathered by index (gathered_gemm.cuh) and the gated unit in the epilogue.
//   Up: a tile holds 96 columns of gate and the same 96 of up, each half of the copy engine's box for the weights, so that
//   one thread has both and the unit needs nothing else.
//   Down's backward: a tile holds 192 columns of the activation's gradient; gate and up come from memory, and their
//   gradients go back to the same place.
// In both epilogues sums pass through shared memory, 32 columns of a warp's 16 rows at a time, so that a lane has eight
// neighbouring columns and reads and writes 16 bytes.
#include "expert_variants.hpp"
#include "gathered_gemm.cuh"
#include "grouped_launch.cuh"
#include "launch.cuh"
#include "moesaic/tensor/cuda_memory.hpp"
#include "rows.cuh"
#include "swiglu.cuh"

namespace moesaic::cuda {
namespace {

using namespace hopper;

constexpr int part_columns = 32, lane_columns = 8;

/// The first of two places of this lane in a part of 16 rows; the second lies eight rows below.
__device__ int lane_row() { return static_cast<int>(threadIdx.x) % 32 / 4; }
__device__ int lane_column() { return static_cast<int>(threadIdx.x) % 4 * lane_columns; }

__device__ void round_to_bf16(float (&values)[lane_columns]) {
#pragma unroll
  for (float& value : values) value = widen(narrow<bf16>(value));
}

/// Puts 32 columns of sums, as bf16, at column `to` of a part.
__device__ void stage_columns(const float (&sums)[tile_n / 2], int first, OutputPart<bf16>& part, int to) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int c = 0; c < part_columns; c += 16) {
    const float* s = sums + (first + c) / 2;
    store_matrices(&part.rows[lane % 16][to + c + lane / 16 * 8], pack_bf16(s[0], s[1]), pack_bf16(s[2], s[3]),
                   pack_bf16(s[4], s[5]), pack_bf16(s[6], s[7]));
  }
}

struct Up {
  static constexpr Form form = Form::forward;
  static constexpr int columns = tile_n / 2;

  GatedUnit<bf16> unit;
  int width;
  Matrix<bf16> gate_up, activated;
  Matrix<const bf16> bias;

  /// The first half is of gate's rows, the second of up's.
  __device__ Place weights(const Tile& tile, int step, int half) const {
    return {tile.column + half * width, step, tile.expert};
  }

  __device__ void finish(const float (&sums)[tile_n / 2], const Tile& tile, int row, OutputParts& scratch) const {
    OutputPart<bf16>& part = scratch.narrow;
#pragma unroll
    for (int first = 0; first < columns; first += part_columns) {
      if (tile.column + first >= width) break;
      stage_columns(sums, first, part, 0);
      stage_columns(sums, columns + first, part, part_columns);
      __syncwarp();
#pragma unroll 1
      for (int r = lane_row(); r < 16; r += 8)
        if (row + r < tile.rows.count())
          activate(tile.expert, tile.rows.begin + row + r, tile.column + first + lane_column(), part.rows[r]);
      __syncwarp();
    }
  }

 private:
  /// Eight columns of one slot: gate at `staged`, up 32 columns beyond.
  __device__ void activate(int expert, int slot, int column, const std::uint16_t* staged) const {
    float gate[lane_columns], up[lane_columns];
    load(reinterpret_cast<const bf16*>(staged) + lane_column(), gate);
    load(reinterpret_cast<const bf16*>(staged) + part_columns + lane_column(), up);
    if (bias.data != nullptr) {
      add_bias(bias[expert] + column, gate);
      add_bias(bias[expert] + width + column, up);
    }
    store(gate, gate_up[slot] + column);
    store(up, gate_up[slot] + width + column);
    if (activated.data == nullptr) return;
#pragma unroll
    for (int i = 0; i < lane_columns; ++i) gate[i] = unit.value(gate[i], up[i]);
    store(gate, activated[slot] + column);
  }

  __device__ static void add_bias(const bf16* from, float (&values)[lane_columns]) {
    float added[lane_columns];
    load(from, added);
#pragma unroll
    for (int i = 0; i < lane_columns; ++i) values[i] += added[i];
    round_to_bf16(values);  // as gate and up are kept
  }
};

struct DownBackward {
  static constexpr Form form = Form::input_gradient;
  static constexpr int columns = tile_n;
  static_assert(columns == expert_backward_columns);

  GatedUnit<bf16> unit;
  int width;
  Matrix<bf16> gate_up, activated;
  const float* slot_weights;
  Matrix<float> products;

  __device__ Place weights(const Tile& tile, int step, int half) const {
    return place_of<Major::outer, tile_n>(tile.column, 0, tile.expert, step, half);
  }

  __device__ void finish(const float (&sums)[tile_n / 2], const Tile& tile, int row, OutputParts& scratch) const {
    OutputPart<float>& part = scratch.wide;
    float product[2] = {}, weight[2];
#pragma unroll
    for (int i = 0; i < 2; ++i)
      weight[i] = slot_weights[tile.rows.begin + min(row + lane_row() + 8 * i, tile.rows.count() - 1)];
#pragma unroll
    for (int first = 0; first < columns; first += part_columns) {
      if (tile.column + first >= width) break;
      const Units units = load_units(tile, row, tile.column + first);  // under way while sums are staged
      stage_part(sums, first, part);
      __syncwarp();
#pragma unroll 1  // registers are short, and so is the memory of instructions
      for (int i = 0; i < 2; ++i) {
        const int r = lane_row() + 8 * i;
        float part_product = 0;
        if (row + r < tile.rows.count())
          part_product = differentiate(tile.rows.begin + row + r, tile.column + first + lane_column(),
                                       part.rows[r] + lane_column(), i == 0 ? weight[0] : weight[1],
                                       i == 0 ? units.gate[0] : units.gate[1], i == 0 ? units.up[0] : units.up[1]);
        product[0] += i == 0 ? part_product : 0.0f;
        product[1] += i == 0 ? 0.0f : part_product;
      }
      __syncwarp();
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int r = row + lane_row() + 8 * i;
      const float sum = warp_sum<4>(product[i]);
      if (threadIdx.x % 4 == 0 && r < tile.rows.count() && tile.column < width)
        products[tile.rows.begin + r][tile.column / columns] = sum;
    }
  }

 private:
  struct alignas(16) Packed {
    std::uint32_t pairs[lane_columns / 2];
  };
  /// Gate and up at this lane's two places in a part.
  struct Units {
    Packed gate[2], up[2];
  };
  __device__ Units load_units(const Tile& tile, int row, int column) const {
    Units units{};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int r = row + lane_row() + 8 * i;
      if (r >= tile.rows.count()) break;
      const bf16* const gate = gate_up[tile.rows.begin + r] + column + lane_column();
      units.gate[i] = *reinterpret_cast<const Packed*>(gate);
      units.up[i] = *reinterpret_cast<const Packed*>(gate + width);
    }
    return units;
  }

  /// Eight columns of one slot; returns their part of <h, a>.
  __device__ float differentiate(int slot, int column, const float* staged, float weight, Packed gates,
                                 Packed ups) const {
    Packed values;
    float product = 0;
#pragma unroll
    for (int i = 0; i < lane_columns / 2; ++i) {
      const float2 gate = unpack(gates.pairs[i]), up = unpack(ups.pairs[i]);
      const float2 h = *reinterpret_cast<const float2*>(staged + 2 * i);
      const float2 a{unit.value(gate.x, up.x), unit.value(gate.y, up.y)};
      product += h.x * a.x + h.y * a.y;
      values.pairs[i] = pack_bf16(weight * a.x, weight * a.y);
      float2 dgate, dup;
      unit.differentiate(gate.x, up.x, weight * h.x, dgate.x, dup.x);
      unit.differentiate(gate.y, up.y, weight * h.y, dgate.y, dup.y);
      gates.pairs[i] = pack_bf16(dgate.x, dgate.y);
      ups.pairs[i] = pack_bf16(dup.x, dup.y);
    }
    *reinterpret_cast<Packed*>(gate_up[slot] + column) = gates;
    *reinterpret_cast<Packed*>(gate_up[slot] + width + column) = ups;
    *reinterpret_cast<Packed*>(activated[slot] + column) = values;
    return product;
  }

  __device__ static float2 unpack(std::uint32_t pair) {
    return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
  }
};

template <class Work>
void launch(const OperatorContext& context, const Work& work, ConstView tokens, ConstView slot_token, ConstView offsets,
            const CUtensorMap& weights) {
  const auto kernel = gathered::gathered_gemm_kernel<Work>;
  const Group group = group_of(offsets, -1, work.width, tokens.extent(1));
  using Table = TileTable<tile_m, Work::columns>;
  static_assert(sizeof(gathered::Shared) + Table::bytes(most_fused_experts) <= shared_memory);
  const std::size_t bytes = sizeof(gathered::Shared) + Table::bytes(group.experts);
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
             "cudaFuncSetAttribute");
  const gathered::TokenRows rows{tokens.data<bf16>(), static_cast<std::uint32_t>(tokens.stride(0) / 8),
                                 slot_token.data<std::int32_t>()};
  kernel<<<count_blocks(), hopper::block_threads, bytes, cuda_stream(context.stream)>>>(weights, group, rows, work);
  check_cuda(cudaGetLastError(), "the kernel of experts for Hopper");
}

}  // namespace

void hopper_expert_up(const OperatorContext& context, const SwigluOptions& swiglu, ConstView in, ConstView slot_token,
                      ConstView weights, ConstView bias, ConstView offsets, View gate_up, View activated) {
  const Up work{gated_unit<bf16>(swiglu), static_cast<int>(gate_up.extent(1) / 2), matrix_of<bf16>(gate_up),
                matrix_of<bf16>(activated), matrix_of<const bf16>(bias)};
  launch(context, work, in, slot_token, offsets, make_tensor_map(weights, half_box(Major::summed, tile_n)));
}

void hopper_expert_down_backward(const OperatorContext& context, const SwigluOptions& swiglu,
                                 const SlotRouting& routing, ConstView output_gradient, ConstView down,
                                 const ExpertScratch& scratch, View gate_up, View activated) {
  const DownBackward work{
      gated_unit<bf16>(swiglu),   static_cast<int>(down.extent(2)),          matrix_of<bf16>(gate_up),
      matrix_of<bf16>(activated), scratch.slot_weights.view().data<float>(), matrix_of<float>(scratch.products.view())};
  launch(context, work, output_gradient, routing.slot_token, routing.offsets,
         make_tensor_map(down, half_box(Major::outer, tile_n)));
}

}  // namespace moesaic::cuda
