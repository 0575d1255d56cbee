#pragma once
/// The one ownership function: which block of a global extent does a part own.

#include <cstdint>

#include "moesaic/base/contract.hpp"

namespace moesaic {

/// A half-open range [begin, end) of a global extent.
struct Block {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  constexpr std::int64_t size() const { return end - begin; }
  constexpr bool empty() const { return begin == end; }
  constexpr bool contains(std::int64_t index) const { return begin <= index && index < end; }
  friend constexpr bool operator==(const Block&, const Block&) = default;
};

/// Cuts [0, extent) into `parts` contiguous blocks whose sizes differ by one at most, the larger ones first, and
/// returns block `part`. Example: block_of(10, 4, 0..3) = [0,3) [3,6) [6,8) [8,10).
constexpr Block block_of(std::int64_t extent, std::int64_t parts, std::int64_t part) {
  MOESAIC_EXPECT(extent >= 0 && parts > 0 && 0 <= part && part < parts);
  const std::int64_t base = extent / parts, larger = extent % parts;
  const std::int64_t begin = part * base + (part < larger ? part : larger);
  return {begin, begin + base + (part < larger ? 1 : 0)};
}

/// The part that owns `index` in the same cut.
constexpr std::int64_t owner_of(std::int64_t extent, std::int64_t parts, std::int64_t index) {
  MOESAIC_EXPECT(0 <= index && index < extent);
  const std::int64_t base = extent / parts, larger = extent % parts;
  const std::int64_t split = larger * (base + 1);
  return index < split ? index / (base + 1) : larger + (index - split) / base;
}

/// Two blocks of one extent.
struct BlockPair {
  Block early, late;
};

/// Cuts [0, extent) into 2 * parts equal blocks, which must be possible, and returns two that mirror each other: block
/// `part`, and block `part` counted from the end. Of a triangle under the diagonal all parts then own the same area.
/// Example: mirrored_blocks_of(12, 3, 1) = [2,4) and [8,10).
constexpr BlockPair mirrored_blocks_of(std::int64_t extent, std::int64_t parts, std::int64_t part) {
  MOESAIC_EXPECT(extent % (2 * parts) == 0);
  return {block_of(extent, 2 * parts, part), block_of(extent, 2 * parts, 2 * parts - 1 - part)};
}

/// The part of `block` that lies in `other`; empty (begin == end) when they do not meet.
constexpr Block intersection(Block block, Block other) {
  const std::int64_t begin = block.begin > other.begin ? block.begin : other.begin;
  const std::int64_t end = block.end < other.end ? block.end : other.end;
  return begin < end ? Block{begin, end} : Block{begin, begin};
}

}  // namespace moesaic
