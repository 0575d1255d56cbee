#pragma once
/// How a unit of parameters lies in memory and which slice of it each rank owns. Pure arithmetic.

#include <vector>

#include "moesaic/grid/block.hpp"
#include "moesaic/layers/parameter.hpp"

namespace moesaic {

/// A run of one parameter's elements within a rank's slice.
struct SlicePiece {
  int parameter = 0;    ///< index in UnitSpec::parameters
  Block elements;       ///< flat range of the *global* parameter, row-major
  std::int64_t at = 0;  ///< where the run starts in the slice

  friend bool operator==(const SlicePiece&, const SlicePiece&) = default;
};

/// Where a unit is: its block of experts (parts 1 for dense units), then equal slices over `shards` ranks.
struct UnitPlacement {
  int expert_parts = 1;
  int expert_part = 0;
  int shards = 1;
};

/// The unit's tensors one after the other, each starting at a multiple of `alignment` elements, padded to
/// shards * slice() elements. Rank r of the shard group owns elements [r * slice(), (r + 1) * slice()).
class UnitLayout {
 public:
  static constexpr std::int64_t alignment = 16;

  UnitLayout(const UnitSpec& spec, const UnitPlacement& placement);

  const UnitSpec& spec() const { return *spec_; }
  const UnitPlacement& placement() const { return placement_; }
  /// Elements of one rank's slice, padding included.
  std::int64_t slice() const { return slice_; }
  /// Elements of the whole (this rank's experts), padding included.
  std::int64_t whole() const { return slice_ * placement_.shards; }

  /// The parts of each parameter that slice `shard` holds, in order; padding belongs to none.
  std::vector<SlicePiece> pieces(int shard) const;

  /// Views of the parameters in memory that holds the whole.
  ParameterViews views(View whole) const;

 private:
  const UnitSpec* spec_;
  UnitPlacement placement_;
  std::vector<Extents> shapes_;        ///< local: experts cut
  std::vector<std::int64_t> offsets_;  ///< of each parameter in the whole
  std::vector<std::int64_t> first_;    ///< global flat index of each local parameter's first element
  std::int64_t slice_ = 0;
};

}  // namespace moesaic
