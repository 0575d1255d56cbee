#include "block_table.hpp"

#include <algorithm>
#include <bit>
#include <tuple>

namespace moesaic {
namespace {

constexpr std::int64_t block_bytes = std::int64_t{4} << 20;

auto place_of(const HashedBlock& block) { return std::tuple(block.array, block.elements.begin, block.elements.end); }

}  // namespace

std::vector<HashedBlock> cut_into_blocks(std::int64_t array, Block elements, std::int64_t bytes_per_element) {
  const std::int64_t step = block_bytes / bytes_per_element;
  std::vector<HashedBlock> blocks;
  for (std::int64_t begin = elements.begin; begin < elements.end; begin += step)
    blocks.push_back({array, {begin, std::min(begin + step, elements.end)}, 0});
  return blocks;
}

std::vector<std::int64_t> rows_of(std::span<const HashedBlock> blocks) {
  std::vector<std::int64_t> rows;
  rows.reserve(blocks.size() * static_cast<std::size_t>(block_columns));
  for (const HashedBlock& block : blocks)
    rows.insert(rows.end(),
                {block.array, block.elements.begin, block.elements.end, std::bit_cast<std::int64_t>(block.hash)});
  return rows;
}

std::vector<HashedBlock> blocks_of(std::span<const std::int64_t> rows) {
  std::vector<HashedBlock> blocks;
  for (std::size_t i = 0; i + 3 < rows.size(); i += 4)
    blocks.push_back({rows[i], {rows[i + 1], rows[i + 2]}, std::bit_cast<std::uint64_t>(rows[i + 3])});
  return blocks;
}

void sort_blocks(std::vector<HashedBlock>& blocks) {
  std::sort(blocks.begin(), blocks.end(),
            [](const HashedBlock& a, const HashedBlock& b) { return place_of(a) < place_of(b); });
}

Block blocks_of_array(std::span<const HashedBlock> blocks, std::int64_t array) {
  const auto at = [&](std::int64_t number) {
    return std::lower_bound(blocks.begin(), blocks.end(), number,
                            [](const HashedBlock& block, std::int64_t key) { return block.array < key; }) -
           blocks.begin();
  };
  return {at(array), at(array + 1)};
}

Block flaw_of(std::span<const HashedBlock> blocks, std::int64_t array, std::int64_t size) {
  const Block numbers = blocks_of_array(blocks, array);
  std::int64_t end = 0;
  for (std::int64_t i = numbers.begin; i < numbers.end; ++i) {
    const Block range = blocks[static_cast<std::size_t>(i)].elements;
    if (range.begin != end || range.end <= range.begin || range.end > size)
      return {std::min(end, range.begin), std::max({end, range.begin, range.end})};
    end = range.end;
  }
  return {end, size};
}

}  // namespace moesaic
