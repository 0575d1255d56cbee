#include "moesaic/io/flat_ranges.hpp"

namespace moesaic {
namespace {

/// Appends the slabs of `range`, an interval of the flattened dimensions from `dimension` on, at the given start of the
/// slower dimensions.
void append_slabs(const Shape& shape, std::size_t dimension, Slab slab, Block range, std::vector<Slab>& slabs) {
  std::int64_t row = 1;
  for (std::size_t d = dimension + 1; d < shape.size(); ++d) row *= shape[d];
  const auto append_rows = [&](std::int64_t first, std::int64_t end) {
    slab.start[dimension] = first;
    slab.count[dimension] = end - first;
    slabs.push_back(slab);
  };
  const auto append_part = [&](std::int64_t index, Block part) {
    Slab inner = slab;
    inner.start[dimension] = index;
    inner.count[dimension] = 1;
    append_slabs(shape, dimension + 1, inner, part, slabs);
  };
  const std::int64_t first = range.begin / row, head = range.begin % row, last = range.end / row,
                     tail = range.end % row;
  if (first == last) return append_part(first, {head, tail});
  if (head > 0) append_part(first, {head, row});
  const std::int64_t first_full = head > 0 ? first + 1 : first;
  if (first_full < last) append_rows(first_full, last);
  if (tail > 0) append_part(last, {0, tail});
}

}  // namespace

std::vector<Slab> slabs_of(const Shape& shape, Block range) {
  MOESAIC_EXPECT(!shape.empty() && 0 <= range.begin && range.end <= element_count(shape));
  std::vector<Slab> slabs;
  if (!range.empty()) append_slabs(shape, 0, {Shape(shape.size(), 0), shape}, range, slabs);
  return slabs;
}

std::int64_t total_size(std::span<const Block> ranges) {
  std::int64_t size = 0;
  for (Block range : ranges) size += range.size();
  return size;
}

std::vector<Block> part_of(std::span<const Block> ranges, Block part) {
  std::vector<Block> parts;
  std::int64_t passed = 0;
  for (Block range : ranges) {
    const Block met = intersection({passed, passed + range.size()}, part);
    if (!met.empty()) parts.push_back({range.begin + met.begin - passed, range.begin + met.end - passed});
    passed += range.size();
  }
  return parts;
}

}  // namespace moesaic
