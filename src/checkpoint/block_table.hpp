#pragma once
/// The hashes of a checkpoint: which block of which array has which.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "moesaic/grid/block.hpp"
#include "moesaic/tensor/dtype.hpp"

namespace moesaic {

/// A range of one array that one rank wrote, at most 4 MiB of it.
struct HashedBlock {
  std::int64_t array = 0;  ///< its number in the order of names
  Block elements;
  std::uint64_t hash = 0;
};

/// Integers of one row of the table: array, begin, end, hash (its 64 bits as a signed number).
inline constexpr std::int64_t block_columns = 4;

/// The blocks that `elements` of array `array` are written in; hashes not yet known.
std::vector<HashedBlock> cut_into_blocks(std::int64_t array, Block elements, std::int64_t bytes_per_element);

/// The table as it lies in the file, row after row, and back.
std::vector<std::int64_t> rows_of(std::span<const HashedBlock> blocks);
std::vector<HashedBlock> blocks_of(std::span<const std::int64_t> rows);

/// Sorts by array and place.
void sort_blocks(std::vector<HashedBlock>& blocks);

/// The numbers of the blocks of array `array` in the table. `blocks` are sorted.
Block blocks_of_array(std::span<const HashedBlock> blocks, std::int64_t array);

/// Elements of array `array`, which has `size`, that no block holds or that two do; empty when each lies in one.
/// `blocks` are sorted.
Block flaw_of(std::span<const HashedBlock> blocks, std::int64_t array, std::int64_t size);

}  // namespace moesaic
