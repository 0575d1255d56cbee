#pragma once
/// Ranges of a flattened (row-major) array, and the rectangular slabs of the array that they are made of.

#include <cstdint>
#include <span>
#include <vector>

#include "moesaic/grid/block.hpp"
#include "moesaic/io/shape.hpp"

namespace moesaic {

/// A box: elements [start, start + count) in every dimension.
struct Slab {
  Shape start;
  Shape count;
  friend bool operator==(const Slab&, const Slab&) = default;
};

/// The slabs that make up the elements [range.begin, range.end), in their order: at most 2 * dimensions - 1.
/// Example: [1, 8) of shape [3, 3] is {[0, 1] x [1, 2], [1, 0] x [1, 3], [2, 0] x [1, 2]}, written start x count.
std::vector<Slab> slabs_of(const Shape& shape, Block range);

/// Elements in all ranges.
std::int64_t total_size(std::span<const Block> ranges);

/// The part of `ranges` that holds their elements number [part.begin, part.end), counted along the ranges.
/// Example: elements [1, 4) of {[0, 2), [10, 20)} are {[1, 2), [10, 12)}.
std::vector<Block> part_of(std::span<const Block> ranges, Block part);

}  // namespace moesaic
