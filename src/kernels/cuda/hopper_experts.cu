// Two products of experts on Hopper, with rows gathered by index (gathered_gemm.cuh) and the gated unit in the epilogue.
//   Up: a tile holds 96 columns of gate and the same 96 of up, each half of the copy engine's box for the weights, so that
//   one thread has both and the unit needs nothing else.
//   Down's backward: a tile holds 192 columns of the activation's gradient; gate and up come from memory, the first of
//   them while the products are under way, and their gradients go back to the same place.
// Both epilogues work on the sums where the tensor cores left them and pass results through shared memory, 32 columns of a
// warp's 16 rows at a time, so that a lane writes 16 bytes.
#include "expert_variants.hpp"
#include "gathered_gemm.cuh"
#include "grouped_launch.cuh"
#include "launch.cuh"
#include "moesaic/tensor/cuda_memory.hpp"
#include "rows.cuh"
#include "swiglu.cuh"

#include <type_traits>

namespace moesaic::cuda {
namespace {

using namespace hopper;
using gathered::shift;

constexpr int part_columns = 32, block_rows = 64, warp_rows = 16;

/// Read anew each time: what a compiler could compute from it ahead of all tiles would take registers that it has not.
__device__ int lane_in_warp() {
  int lane;
  asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
}

/// 16 rows of 32 columns of bf16 in shared memory, 16 bytes at a time swizzled against bank conflicts.
struct Part {
  static constexpr int chunks = part_columns / 8;
  alignas(128) uint4 rows[warp_rows][chunks];

  __device__ uint4& at(int row, int chunk) { return rows[row][chunk ^ row / 2 % chunks]; }
  /// Where this lane's address lies for the matrices of 16 columns (load_matrices, store_matrices).
  __device__ uint4* matrices(int slice) {
    const int lane = lane_in_warp();
    return &at(lane % 16, slice * 2 + lane / 16);
  }
};

__device__ float2 unpack(std::uint32_t pair) {
  return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
}

/// Four pairs of this lane, one of each matrix of a slice of 16 columns.
struct Pairs4 {
  std::uint32_t pairs[4];
  __device__ void load(Part& part, int slice) {
    load_matrices(part.matrices(slice), pairs[0], pairs[1], pairs[2], pairs[3]);
  }
  __device__ void store(Part& part, int slice) const {
    store_matrices(part.matrices(slice), pairs[0], pairs[1], pairs[2], pairs[3]);
  }
};

/// The part's rows that exist, 16 bytes a lane: to `to` [.., stride], the part's first element.
__device__ void write_rows(Part& part, bf16* to, std::int64_t stride, int rows) {
  const int lane = lane_in_warp(), chunk = lane % Part::chunks;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = lane / Part::chunks + 8 * i;
    if (row < rows) *reinterpret_cast<uint4*>(to + row * stride + chunk * 8) = part.at(row, chunk);
  }
}

template <bool usual> struct Up {
  static constexpr Form form = Form::forward;
  static constexpr int columns = tile_n / 2;
  /// Also keeps what the epilogue needs to know of the tile, for which registers are short.
  struct Scratch {
    Part gate, up, activated;
    int expert, slot, rows, column;
  };

  GatedUnit<bf16, usual> unit;
  int width;
  Matrix<bf16> gate_up, activated;
  Matrix<const bf16> bias;

  /// The first half is of gate's rows, the second of up's.
  __device__ Place weights(const Tile& tile, int step, int half) const {
    return {tile.column + half * width, step, tile.expert};
  }

  __device__ void begin(const Tile& tile, int row, Scratch& scratch) const {
    if (lane_in_warp() == 0) {
      scratch.expert = tile.expert;
      scratch.slot = tile.rows.begin + row;
      scratch.rows = tile.rows.count() - row;
      scratch.column = tile.column;
    }
    __syncwarp();
  }

  template <class Own> __device__ void finish(Sums& sums, const Own& own) const {
    Scratch& scratch = own();
#pragma unroll 1
    for (int block = 0; block < 2; ++block) {
#pragma unroll
      for (int first = 0; first < columns; first += part_columns) {
        const int column = scratch.column + first;
        if (column >= width) break;
#pragma unroll
        for (int slice = 0; slice < 2; ++slice)
          activate(&sums[0][(first + 16 * slice) / 2], scratch.expert, column, slice, scratch);
        __syncwarp();
        write(scratch, block * block_rows, column);
        __syncwarp();
      }
      shift<tile_n / 2>(sums);
    }
  }

 private:
  /// 16 columns; gate's sums lie at `sums`, up's 96 columns beyond.
  __device__ void activate(const float* sums, int expert, int column, int slice, Scratch& scratch) const {
    Pairs4 gate, up, values;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float *g = sums + 2 * i, *u = g + columns / 2;
      gate.pairs[i] = pack_bf16(g[0], g[1]);
      up.pairs[i] = pack_bf16(u[0], u[1]);
      if (bias.data != nullptr) {
        const bf16* const from = bias[expert] + column + slice * 16 + i / 2 * 8 + lane_in_warp() % 4 * 2;
        gate.pairs[i] = add(gate.pairs[i], from);
        up.pairs[i] = add(up.pairs[i], from + width);
      }
      const float2 a = unpack(gate.pairs[i]), b = unpack(up.pairs[i]);
      values.pairs[i] = pack_bf16(unit.value(a.x, b.x), unit.value(a.y, b.y));
    }
    gate.store(scratch.gate, slice);
    up.store(scratch.up, slice);
    values.store(scratch.activated, slice);
  }

  /// Rounded once more, as gate and up are kept.
  __device__ static std::uint32_t add(std::uint32_t pair, const bf16* bias) {
    const float2 values = unpack(pair), added = unpack(*reinterpret_cast<const std::uint32_t*>(bias));
    return pack_bf16(values.x + added.x, values.y + added.y);
  }

  __device__ void write(Scratch& scratch, int first_row, int column) const {
    const int slot = scratch.slot + first_row, rows = scratch.rows - first_row;
    write_rows(scratch.gate, gate_up[slot] + column, gate_up.stride, rows);
    write_rows(scratch.up, gate_up[slot] + width + column, gate_up.stride, rows);
    if (activated.data != nullptr) write_rows(scratch.activated, activated[slot] + column, activated.stride, rows);
  }
};

template <bool usual> struct DownBackward {
  static constexpr Form form = Form::input_gradient;
  static constexpr int columns = tile_n;
  static_assert(columns == expert_backward_columns);

  /// Gate and up of three parts are on their way at a time; what becomes of them takes their place.
  static constexpr int units_under_way = 3, parts_of_block = columns / part_columns, parts = 2 * parts_of_block;
  struct Units {
    Part gate, up;
  };
  /// Also keeps what the epilogue needs to know of the tile, for which registers are short.
  struct Scratch {
    Units units[units_under_way];
    Part activated;
    float weights[2 * warp_rows];
    int expert, slot, rows, column;  ///< of the warp's first row; rows from there to the expert's last
    int part;                        ///< under work
  };

  GatedUnit<bf16, usual> unit;
  int width;
  Matrix<bf16> gate_up, activated;
  const float* slot_weights;
  Matrix<float> products;

  __device__ Place weights(const Tile& tile, int step, int half) const {
    return place_of<Major::outer, tile_n>(tile.column, 0, tile.expert, step, half);
  }

  __device__ void begin(const Tile& tile, int row, Scratch& scratch) const {
    const int lane = lane_in_warp();
    if (lane == 0) {
      scratch.expert = tile.expert;
      scratch.slot = tile.rows.begin + row;
      scratch.rows = tile.rows.count() - row;
      scratch.column = tile.column;
      scratch.part = 0;
    }
    __syncwarp();
    copy_word(slot_weights + existing(scratch, lane / warp_rows * block_rows + lane % warp_rows),
              &scratch.weights[lane]);
#pragma unroll 1
    for (int n = 0; n < units_under_way; ++n) copy_units(scratch, n);
  }

  /// `own` finds this warp's Scratch; each step asks anew, and for the number of the part too, rather than keep them.
  template <class Own> __device__ void finish(const Sums& sums, const Own& own) const {
    float product[2] = {};
    do {
      wait_for_copies<units_under_way - 1>();
      __syncwarp();
      if (column(own()) < width) {
#pragma unroll 1
        for (int slice = 0; slice < 2; ++slice) differentiate(sums, slice, own(), product);
        __syncwarp();
        write(own());
        __syncwarp();
      }
      copy_units(own(), part(own()) + units_under_way);
      if (part(own()) % parts_of_block == parts_of_block - 1) write_products(own(), product);
    } while (next_part(own()) < parts);
  }

 private:
  static constexpr int slice_sums = 8;

  /// The slot of a row counted from the warp's first, or the expert's last one for a row past it.
  __device__ static int existing(const Scratch& scratch, int row) { return scratch.slot + min(row, scratch.rows - 1); }

  /// Read anew each time.
  __device__ static int part(const Scratch& scratch) { return *const_cast<const volatile int*>(&scratch.part); }
  __device__ static int column(const Scratch& scratch) { return column(scratch, part(scratch)); }
  __device__ static int column(const Scratch& scratch, int n) {
    return scratch.column + n % parts_of_block * part_columns;
  }
  __device__ static int block(int n) { return n / parts_of_block; }
  __device__ static Units& units_of(Scratch& scratch, int n) { return scratch.units[n % units_under_way]; }

  __device__ static int next_part(Scratch& scratch) {
    const int next = part(scratch) + 1;
    __syncwarp();
    if (lane_in_warp() == 0) scratch.part = next;
    __syncwarp();
    return next;
  }

  /// Starts the copies of part `n`, if there is one; they are waited for as one group.
  __device__ void copy_units(Scratch& scratch, int n) const {
    const int first_column = column(scratch, n);
    if (n < parts && first_column < width) {
      Units& to = units_of(scratch, n);
      const int lane = lane_in_warp(), chunk = lane % Part::chunks;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int row = lane / Part::chunks + 8 * i;
        const bf16* const from = gate_up[existing(scratch, block(n) * block_rows + row)] + first_column + chunk * 8;
        copy_vector(reinterpret_cast<const uint4*>(from), &to.gate.at(row, chunk));
        copy_vector(reinterpret_cast<const uint4*>(from + width), &to.up.at(row, chunk));
      }
    }
    commit_copies();
  }

  /// The sums of slice `n`, by a branch: a register's number is no variable.
  __device__ static void take(const Sums& sums, int n, float (&slice)[slice_sums]) {
    switch (n) {
#define MOESAIC_TAKE(n) \
  case n:               \
    return copy<n>(sums, slice);
#define MOESAIC_TAKE_6(n) \
  MOESAIC_TAKE(n) MOESAIC_TAKE(n + 1) MOESAIC_TAKE(n + 2) MOESAIC_TAKE(n + 3) MOESAIC_TAKE(n + 4) MOESAIC_TAKE(n + 5)
      MOESAIC_TAKE_6(0)
      MOESAIC_TAKE_6(6)
      MOESAIC_TAKE_6(12)
      MOESAIC_TAKE_6(18)
#undef MOESAIC_TAKE_6
#undef MOESAIC_TAKE
    }
  }
  template <int n> __device__ static void copy(const Sums& sums, float (&slice)[slice_sums]) {
    constexpr int slices = tile_n / 2 / slice_sums;
#pragma unroll
    for (int i = 0; i < slice_sums; ++i) slice[i] = sums[n / slices][n % slices * slice_sums + i];
  }

  /// Turns gate and up into their gradients; adds this lane's part of <h, a> of its two rows.
  __device__ void differentiate(const Sums& sums, int slice, Scratch& scratch, float (&product)[2]) const {
    const int n = part(scratch), lane = lane_in_warp();
    float h[slice_sums];
    take(sums, 2 * n + slice, h);
    Units& units = units_of(scratch, n);
    Pairs4 gates, ups, values;
    gates.load(units.gate, slice);
    ups.load(units.up, slice);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 gate = unpack(gates.pairs[i]), up = unpack(ups.pairs[i]);
      const float w = scratch.weights[block(n) * warp_rows + lane / 4 + i % 2 * 8];
      float2 a, dgate, dup;
      unit.differentiate(gate.x, up.x, w * h[2 * i], dgate.x, dup.x, a.x);
      unit.differentiate(gate.y, up.y, w * h[2 * i + 1], dgate.y, dup.y, a.y);
      product[i % 2] += h[2 * i] * a.x + h[2 * i + 1] * a.y;
      values.pairs[i] = pack_bf16(w * a.x, w * a.y);
      gates.pairs[i] = pack_bf16(dgate.x, dgate.y);
      ups.pairs[i] = pack_bf16(dup.x, dup.y);
    }
    gates.store(units.gate, slice);
    ups.store(units.up, slice);
    values.store(scratch.activated, slice);
  }

  __device__ void write(Scratch& scratch) const {
    const int n = part(scratch), first = block(n) * block_rows, first_column = column(scratch, n);
    const int slot = scratch.slot + first, rows = scratch.rows - first;
    Units& units = units_of(scratch, n);
    write_rows(units.gate, gate_up[slot] + first_column, gate_up.stride, rows);
    write_rows(units.up, gate_up[slot] + width + first_column, gate_up.stride, rows);
    write_rows(scratch.activated, activated[slot] + first_column, activated.stride, rows);
  }

  __device__ void write_products(const Scratch& scratch, float (&product)[2]) const {
    const int lane = lane_in_warp(), first = block(part(scratch)) * block_rows;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = first + lane / 4 + 8 * i;
      const float sum = warp_sum<4>(product[i]);
      if (lane % 4 == 0 && row < scratch.rows && scratch.column < width)
        products[scratch.slot + row][scratch.column / columns] = sum;
      product[i] = 0;
    }
  }
};

template <class Work>
void launch(const OperatorContext& context, const Work& work, ConstView tokens, ConstView slot_token, ConstView offsets,
            const CUtensorMap& weights) {
  const auto kernel = gathered::gathered_gemm_kernel<Work>;
  const Group group = group_of(offsets, -1, work.width, tokens.extent(1));
  using Table = TileTable<tile_m, Work::columns>;
  static_assert(sizeof(gathered::Shared<Work>) + Table::bytes(most_fused_experts) <= shared_memory);
  const std::size_t bytes = sizeof(gathered::Shared<Work>) + Table::bytes(group.experts);
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
             "cudaFuncSetAttribute");
  kernel<<<count_blocks(), hopper::block_threads, bytes, cuda_stream(context.stream)>>>(
      weights, group, token_rows(tokens, slot_token), work);
  check_cuda(cudaGetLastError(), "the kernel of experts for Hopper");
}

/// body(true_type) for the usual unit, body(false_type) for others.
template <class Body> void with_unit(const SwigluOptions& swiglu, const Body& body) {
  is_usual(swiglu) ? body(std::true_type()) : body(std::false_type());
}

}  // namespace

void hopper_expert_up(const OperatorContext& context, const SwigluOptions& swiglu, ConstView in, ConstView slot_token,
                      ConstView weights, ConstView bias, ConstView offsets, View gate_up, View activated) {
  with_unit(swiglu, [&]<bool usual>(std::bool_constant<usual>) {
    const Up<usual> work{gated_unit<bf16, usual>(swiglu), static_cast<int>(gate_up.extent(1) / 2),
                         matrix_of<bf16>(gate_up), matrix_of<bf16>(activated), matrix_of<const bf16>(bias)};
    launch(context, work, in, slot_token, offsets, make_tensor_map(weights, half_box(Major::summed, tile_n)));
  });
}

void hopper_expert_down_backward(const OperatorContext& context, const SwigluOptions& swiglu,
                                 const SlotRouting& routing, ConstView output_gradient, ConstView down,
                                 const ExpertScratch& scratch, View gate_up, View activated) {
  with_unit(swiglu, [&]<bool usual>(std::bool_constant<usual>) {
    const DownBackward<usual> work{gated_unit<bf16, usual>(swiglu),
                                   static_cast<int>(down.extent(2)),
                                   matrix_of<bf16>(gate_up),
                                   matrix_of<bf16>(activated),
                                   scratch.slot_weights.view().data<float>(),
                                   matrix_of<float>(scratch.products.view())};
    launch(context, work, output_gradient, routing.slot_token, routing.offsets,
           make_tensor_map(down, half_box(Major::outer, tile_n)));
  });
}

}  // namespace moesaic::cuda
