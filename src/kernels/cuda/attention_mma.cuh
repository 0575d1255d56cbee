#pragma once
/// Tiles of bf16 in shared memory, and products of their rows by warps on the tensor cores (PTX ISA: ldmatrix,
/// mma.m16n8k16), by squares of 16 x 16.

#include "hopper.cuh"
#include "launch.cuh"
#include "moesaic/tensor/view.hpp"

#include <cstdint>

namespace moesaic::cuda {

inline constexpr int square_side = 16;

/// Rows of `width` bf16 in pieces of 16 bytes, swizzled: the same piece of eight neighbouring rows lies in all banks.
template <int width> struct SwizzledTile {
  static_assert(width % 64 == 0);
  static constexpr int pieces = width / 8;
  uint4* data;

  /// Of row `first` + `row`, `first` being a multiple of 8.
  __device__ uint4* piece(int first, int row, int number) const {
    return data + first * pieces + row * pieces + (number ^ (row % 8));
  }
};

/// Copies `bytes` (8 or 16) to shared memory, or zeros unless `there`.
template <int bytes> __device__ void copy_or_zero(const void* from, void* to, bool there) {
  const int count = there ? bytes : 0;
  if constexpr (bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(hopper::shared_address(to)), "l"(from),
                 "r"(count)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(hopper::shared_address(to)), "l"(from), "r"(count)
                 : "memory");
  }
}

/// Rows of a [batch, positions, heads, width] tensor of bf16, all strides whole pieces of 16 bytes and counted in them,
/// so that 32 bits are enough.
template <class Piece> struct PieceRows {
  Piece* data;
  std::uint32_t batch_stride, position_stride, head_stride;

  /// Of a view whose rows vectors_fit.
  template <class Void> static PieceRows of(const BasicView<Void>& view) {
    const auto pieces = [&](int dimension) { return static_cast<std::uint32_t>(view.stride(dimension) / 8); };
    return {static_cast<Piece*>(view.raw()), pieces(0), pieces(1), pieces(2)};
  }
  __device__ Piece* at(int batch, int position, int head) const {
    return data +
           (static_cast<std::uint32_t>(batch) * batch_stride + static_cast<std::uint32_t>(position) * position_stride +
            static_cast<std::uint32_t>(head) * head_stride);
  }
};
using InputRows = PieceRows<const uint4>;
using OutputRows = PieceRows<uint4>;

/// Where a head's rows begin: the sequence and the head.
struct HeadPlace {
  int sequence, head;
};

/// Starts copies of the rows [first, first + rows) of a head, zero from `end` on, to the tile's rows from `row` on.
template <int rows, int threads, int width>
__device__ void fetch_rows(const InputRows& from, HeadPlace place, int first, int end, SwizzledTile<width> tile,
                           int row = 0) {
  constexpr int pieces = 8, at_once = threads / pieces;  // eight threads a row: 128 bytes, then the next 128
  static_assert(rows % at_once == 0 && at_once % 8 == 0);
  const int r = static_cast<int>(threadIdx.x) / pieces, piece = static_cast<int>(threadIdx.x) % pieces;
  const uint4* source = from.at(place.sequence, first + r, place.head) + piece;
  uint4* to = tile.piece(row, r, piece);
#pragma unroll
  for (int n = 0; n < rows; n += at_once) {
    const bool there = first + r + n < end;
#pragma unroll
    for (int c = 0; c < SwizzledTile<width>::pieces; c += pieces)
      copy_or_zero<16>(source + c, to + n * SwizzledTile<width>::pieces + c, there);
    source += at_once * from.position_stride;
  }
}

/// A square as the left factor of a product, spread over a warp.
struct Left {
  std::uint32_t parts[4];
};
/// A square as the right factor.
struct Right {
  std::uint32_t parts[4];
};
/// A square of sums: this lane's values[j][c] are at row(c), column(j, c).
struct Square {
  float values[2][4];

  __device__ static int row(int c) { return lane_number() / 4 + c / 2 * 8; }
  __device__ static int column(int j, int c) { return j * 8 + lane_number() % 4 * 2 + c % 2; }
};

/// body(j, c) for each of this lane's values of a square.
template <class Body> __device__ void for_values(const Body& body) {
#pragma unroll
  for (int j = 0; j < 2; ++j) {
#pragma unroll
    for (int c = 0; c < 4; ++c) body(j, c);
  }
}

/// Four 8 x 8 matrices of bf16, each lane naming where one row of them lies; `transposed`: each is turned over.
template <bool transposed> __device__ void load_matrices(const uint4* from, std::uint32_t (&parts)[4]) {
  const std::uint32_t address = hopper::shared_address(from);
  if constexpr (transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(parts[0]), "=r"(parts[1]), "=r"(parts[2]), "=r"(parts[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(parts[0]), "=r"(parts[1]), "=r"(parts[2]), "=r"(parts[3])
                 : "r"(address)
                 : "memory");
  }
}

/// Rows [row, row + 16) of the tile, columns from 16 `column` on.
template <int width> __device__ Left load_left(SwizzledTile<width> tile, int row, int column) {
  Left left;
  load_matrices<false>(tile.piece(row, lane_number() % 16, column * 2 | lane_number() / 16), left.parts);
  return left;
}

/// The same square, its rows as columns of the right factor.
template <int width> __device__ Right load_right_transposed(SwizzledTile<width> tile, int row, int column) {
  Right right;
  const int lane = lane_number();
  load_matrices<false>(tile.piece(row, lane / 16 * 8 + lane % 8, column * 2 | lane / 8 % 2), right.parts);
  return right;
}

/// The same square as the right factor.
template <int width> __device__ Right load_right(SwizzledTile<width> tile, int row, int column) {
  Right right;
  load_matrices<true>(tile.piece(row, lane_number() % 16, column * 2 | lane_number() / 16), right.parts);
  return right;
}

/// Sums, rounded to bf16, as the left factor of the next product.
__device__ inline Left left_of(const Square& sums) {
  Left left;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float* pair = sums.values[i / 2] + i % 2 * 2;
    left.parts[i] = hopper::pack_bf16(pair[0], pair[1]);
  }
  return left;
}

/// sums += left right.
__device__ inline void add_square_product(const Left& left, const Right& right, Square& sums) {
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    float(&d)[4] = sums.values[j];
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(left.parts[0]), "r"(left.parts[1]), "r"(left.parts[2]), "r"(left.parts[3]), "r"(right.parts[2 * j]),
          "r"(right.parts[2 * j + 1]));
  }
}

/// Sixteen rows of a tile as left factors, kept in registers or read again each time.
template <int width, bool in_registers> class LeftRows;

template <int width> class LeftRows<width, true> {
 public:
  __device__ LeftRows(SwizzledTile<width> tile, int row) {
#pragma unroll
    for (int i = 0; i < width / square_side; ++i) squares_[i] = load_left(tile, row, i);
  }
  __device__ Left operator[](int i) const { return squares_[i]; }

 private:
  Left squares_[width / square_side];
};

template <int width> class LeftRows<width, false> {
 public:
  __device__ LeftRows(SwizzledTile<width> tile, int row) : tile_(tile), row_(row) {}
  __device__ Left operator[](int i) const { return load_left(tile_, row_, i); }

 private:
  SwizzledTile<width> tile_;
  int row_;
};

/// The 16 x 16 inner products of `left` with the rows [row, row + 16) of the tile.
template <int width, bool in_registers>
__device__ Square inner_products(const LeftRows<width, in_registers>& left, SwizzledTile<width> tile, int row) {
  Square sums = {};
#pragma unroll
  for (int i = 0; i < width / square_side; ++i) add_square_product(left[i], load_right_transposed(tile, row, i), sums);
  return sums;
}

/// sums [16, width] += factors times the rows [row, row + 16) of the tile.
template <int width>
__device__ void add_weighted_rows(const Left& factors, SwizzledTile<width> tile, int row,
                                  Square (&sums)[width / square_side]) {
#pragma unroll
  for (int i = 0; i < width / square_side; ++i) add_square_product(factors, load_right(tile, row, i), sums[i]);
}

/// Sixteen rows of a head, from `first` on but before `end`, = factors (of this lane's two rows) * sums. They go through
/// the tile's rows from `row` on, which this warp alone uses.
template <int width>
__device__ void store_sums(const Square (&sums)[width / square_side], const float (&factors)[2],
                           SwizzledTile<width> tile, int row, const OutputRows& to, HeadPlace place, int first,
                           int end) {
  constexpr int pieces = SwizzledTile<width>::pieces;
  __syncwarp();
#pragma unroll
  for (int i = 0; i < width / 8; ++i) {
#pragma unroll
    for (int c = 0; c < 4; c += 2) {
      const float* pair = sums[i / 2].values[i % 2] + c;
      auto* words = reinterpret_cast<std::uint32_t*>(tile.piece(row, Square::row(c), i));
      words[lane_number() % 4] = hopper::pack_bf16(factors[c / 2] * pair[0], factors[c / 2] * pair[1]);
    }
  }
  __syncwarp();
#pragma unroll
  for (int n = 0; n < square_side * pieces / warp_lanes; ++n) {
    const int i = n * warp_lanes + lane_number(), r = i / pieces, piece = i % pieces;
    if (first + r < end) to.at(place.sequence, first + r, place.head)[piece] = *tile.piece(row, r, piece);
  }
}

/// The inner products of each of sixteen rows with the same row of the tile, for this lane's two rows.
template <int width, bool in_registers>
__device__ void row_products(const LeftRows<width, in_registers>& left, SwizzledTile<width> tile, int row,
                             float (&products)[2]) {
  const Square all = inner_products(left, tile, row);
  // The diagonal lies in the lane of each four whose column the row has.
  const int lane = lane_number(), holder = lane / 4 * 4 + lane / 8;
  const bool odd = lane / 4 % 2 == 1;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float* pair = all.values[r] + 2 * r;
    products[r] = __shfl_sync(~0u, odd ? pair[1] : pair[0], holder);
  }
}

inline constexpr float log2_e = 1.442695041f;

/// 2^x, 0 for -inf.
__device__ inline float exp2_fast(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

}  // namespace moesaic::cuda
