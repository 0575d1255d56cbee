#include "moesaic/checkpoint/integrity.hpp"

#include "damage.hpp"
#include "moesaic/comm/agreement.hpp"
#include "moesaic/io/input_file.hpp"

namespace moesaic {
namespace fs = std::filesystem;
namespace {

/// Bytes as numbered by the hashed blocks alone, one after the other.
std::int64_t bytes_of(const FileIndex& index, const HashedBlock& block) {
  return block.elements.size() * index.arrays[static_cast<std::size_t>(block.array)].width();
}

std::int64_t all_bytes(const FileIndex& index) {
  std::int64_t bytes = 0;
  for (const HashedBlock& block : index.blocks) bytes += bytes_of(index, block);
  return bytes;
}

/// Numbers of the blocks that differ among those that begin in `share`, a range of all_bytes().
std::vector<std::int64_t> differing(const fs::path& path, const FileIndex& index, Block share,
                                    const std::function<void()>& alive) {
  const InputFile file(path);
  std::vector<std::byte> buffer;
  std::vector<std::int64_t> found;
  std::int64_t at = 0;
  for (std::size_t i = 0; i < index.blocks.size(); ++i) {
    const HashedBlock& block = index.blocks[i];
    const PlacedArray& array = index.arrays[static_cast<std::size_t>(block.array)];
    const Block place = array.bytes(block.elements);
    if (share.contains(at)) {
      alive();
      buffer.resize(static_cast<std::size_t>(place.size()));
      if (!read_block(file, place, block.hash, buffer.data())) found.push_back(static_cast<std::int64_t>(i));
    }
    at += place.size();
  }
  return found;
}

Verification begin(const FileIndex& index) {
  return {.format = index.format,
          .step = index.info.step,
          .arrays = std::ssize(index.arrays),
          .blocks = std::ssize(index.blocks),
          .bytes = 0,
          .damages = flaws_of(index)};
}

void finish(Verification& result, const FileIndex& index, std::span<const std::int64_t> numbers) {
  result.bytes = all_bytes(index);
  result.damages = damages_of(index, numbers);
}

}  // namespace

Verification verify_checkpoint(const fs::path& path) {
  const FileIndex index = read_index(path);
  Verification result = begin(index);
  if (result.intact()) finish(result, index, differing(path, index, {0, all_bytes(index)}, [] {}));
  return result;
}

Verification verify_checkpoint(const fs::path& path, Communicator& ranks, const std::function<void()>& alive) {
  const FileIndex index = read_index(path, ranks);
  Verification result = begin(index);
  if (!result.intact()) return result;
  std::vector<std::int64_t> mine;
  together(ranks,
           [&] { mine = differing(path, index, block_of(all_bytes(index), ranks.size(), ranks.rank()), alive); });
  finish(result, index, united(ranks, mine));
  return result;
}

}  // namespace moesaic
