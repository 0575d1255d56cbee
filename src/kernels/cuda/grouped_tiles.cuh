#pragma once
/// How a grouped product is cut into tiles, on the device: the host does not know how many rows an expert has.

#include "hopper.cuh"

#include <cstdint>

namespace moesaic::cuda::hopper {

/// Products of a group that share their shape but for the rows of each expert.
struct Group {
  const std::int64_t* offsets;  ///< [experts + 1]
  int experts;
  int outer;   ///< rows of an output matrix; -1: the rows of the expert
  int width;   ///< columns of the output
  int summed;  ///< length of the sums; -1: the rows of the expert
};

/// Rows [begin, end) of an expert.
struct Rows {
  int begin, end;
  __device__ int count() const { return end - begin; }
};

/// One tile of a block: two of them, of the two blocks of a cluster, are neighbours that share one operand.
struct Tile {
  int expert, row, column;  ///< first row and column within the expert's output
  Rows rows;
  bool share_b;  ///< the neighbour lies below (else beside, and shares a)
};

/// Number of pairs of tiles of one output matrix: pairs that lie one below the other, and, where the rows of tiles are
/// odd, those of the last row side by side.
struct Pairs {
  int tile_rows, tile_columns;
  __device__ int upright() const { return tile_rows / 2 * tile_columns; }
  __device__ int count() const { return upright() + tile_rows % 2 * ((tile_columns + 1) / 2); }
};

/// The pairs of tiles of all experts, numbered through in expert order; within an output matrix from bands of 8 pairs'
/// rows to the next, within a band from column to column. So the pairs under way at one time form a block that is about as
/// high as wide, and need few rows and columns of the operands together.
/// `beside`: the same with rows and columns changed about, for pairs that had better share a.
template <int tile_m, int tile_n, bool beside = false> class TileTable {
 public:
  /// Bytes of shared memory that a table takes.
  static constexpr std::size_t bytes(std::int64_t experts) {
    return static_cast<std::size_t>(experts + 1) * 2 * sizeof(int);
  }

  __device__ TileTable(const Group& group, int* shared)
      : group_(group), first_pair_(shared), first_row_(shared + group.experts + 1) {}

  /// Called by all lanes of one warp, before anyone else uses the table.
  __device__ void fill(int lane) {
    int pairs_before = 0;
    for (int first = 0; first < group_.experts; first += 32) {
      const int expert = first + lane;
      const bool exists = expert < group_.experts;
      int sum = 0;
      if (exists) {
        first_row_[expert] = static_cast<int>(group_.offsets[expert]);
        first_row_[expert + 1] = static_cast<int>(group_.offsets[expert + 1]);
        sum = pairs({first_row_[expert], first_row_[expert + 1]}).count();
      }
      const int own = sum;
      for (int distance = 1; distance < 32; distance *= 2) {
        const int before = __shfl_up_sync(~0u, sum, distance);
        if (lane >= distance) sum += before;
      }
      if (exists) first_pair_[expert] = pairs_before + sum - own;
      pairs_before += __shfl_sync(~0u, sum, 31);
    }
    if (lane == 0) first_pair_[group_.experts] = pairs_before;
  }

  __device__ int count() const { return first_pair_[group_.experts]; }

  /// The tile of block `rank` in pair `pair`; `expert` is where the search begins, at or before the pair's.
  __device__ Tile find(int pair, int rank, int expert) const {
    while (first_pair_[expert + 1] <= pair) ++expert;
    const Rows rows{first_row_[expert], first_row_[expert + 1]};
    const Pairs all = pairs(rows);
    const int number = pair - first_pair_[expert];
    if (number < all.upright()) {
      constexpr int band = 8;
      const int first = number / (band * all.tile_columns) * band, in_band = number - first * all.tile_columns;
      const int height = min(band, all.tile_rows / 2 - first);
      return tile(expert, (first + in_band % height) * 2 + rank, in_band / height, rows, true);
    }
    return tile(expert, all.tile_rows - 1, (number - all.upright()) * 2 + rank, rows, false);
  }

  /// Steps of `depth` along the sums of the expert's products.
  template <int depth> __device__ int steps(const Rows& rows) const {
    return ((group_.summed < 0 ? rows.count() : group_.summed) + depth - 1) / depth;
  }

 private:
  __device__ Pairs pairs(const Rows& rows) const {
    const int outer = group_.outer < 0 ? rows.count() : group_.outer;
    const int tile_rows = (outer + tile_m - 1) / tile_m, tile_columns = (group_.width + tile_n - 1) / tile_n;
    if constexpr (beside) return {tile_columns, tile_rows};
    return {tile_rows, tile_columns};
  }

  __device__ static Tile tile(int expert, int tile_row, int tile_column, const Rows& rows, bool below) {
    if constexpr (beside) return {expert, tile_column * tile_m, tile_row * tile_n, rows, !below};
    return {expert, tile_row * tile_m, tile_column * tile_n, rows, below};
  }

  Group group_;
  int* first_pair_;
  int* first_row_;
};

}  // namespace moesaic::cuda::hopper
