#include "moesaic/checkpoint/integrity.hpp"

#include <algorithm>

#include "file_index.hpp"
#include "moesaic/base/hash.hpp"
#include "moesaic/comm/agreement.hpp"
#include "moesaic/io/input_file.hpp"

namespace moesaic {
namespace fs = std::filesystem;
namespace {

Damage flaw(const std::string& array, const std::string& what) {
  return {.array = array, .elements = {}, .bytes = {}, .what = what};
}

/// What is wrong with the hashes before any block is read.
std::vector<Damage> flaws_of(const FileIndex& index) {
  if (!index.flaw.empty()) return {flaw("/hashes", index.flaw)};
  std::vector<Damage> damages;
  for (std::size_t i = 0; i < index.arrays.size(); ++i) {
    const PlacedArray& array = index.arrays[i];
    const Block hole = flaw_of(index.blocks, static_cast<std::int64_t>(i), array.size());
    if (!hole.empty())
      damages.push_back(
          flaw(array.name, fmt::format("elements {} to {} have no hash or two", hole.begin, hole.end - 1)));
  }
  return damages;
}

/// Bytes as numbered by the hashed blocks alone, one after the other.
std::int64_t bytes_of(const FileIndex& index, const HashedBlock& block) {
  return block.elements.size() * index.arrays[static_cast<std::size_t>(block.array)].width();
}

std::int64_t all_bytes(const FileIndex& index) {
  std::int64_t bytes = 0;
  for (const HashedBlock& block : index.blocks) bytes += bytes_of(index, block);
  return bytes;
}

/// Whether the block's bytes are those that were written; false also when they cannot be read.
bool matches(const InputFile& file, Block bytes, std::uint64_t hash, std::vector<std::byte>& buffer) {
  if (bytes.end > file.size()) return false;
  buffer.resize(static_cast<std::size_t>(bytes.size()));
  try {
    file.read_at(bytes.begin, buffer.data(), bytes.size());
  } catch (const RunError&) {
    return false;
  }
  return hash64(buffer) == hash;
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
    if (share.contains(at)) alive();
    if (share.contains(at) && !matches(file, array.bytes(block.elements), block.hash, buffer))
      found.push_back(static_cast<std::int64_t>(i));
    at += bytes_of(index, block);
  }
  return found;
}

Damage damage_of(const FileIndex& index, std::int64_t number) {
  const HashedBlock& block = index.blocks[static_cast<std::size_t>(number)];
  const PlacedArray& array = index.arrays[static_cast<std::size_t>(block.array)];
  return {.array = array.name, .elements = block.elements, .bytes = array.bytes(block.elements), .what = ""};
}

Verification begin(const FileIndex& index) {
  return {.format = index.format,
          .step = index.info.step,
          .arrays = std::ssize(index.arrays),
          .blocks = std::ssize(index.blocks),
          .bytes = 0,
          .damages = index.format > 1 ? flaws_of(index) : std::vector<Damage>{}};
}

void finish(Verification& result, const FileIndex& index, std::vector<std::int64_t> numbers) {
  std::sort(numbers.begin(), numbers.end());
  result.bytes = all_bytes(index);
  for (std::int64_t number : numbers) result.damages.push_back(damage_of(index, number));
}

/// The numbers of all ranks, on every rank.
std::vector<std::int64_t> gathered(Communicator& ranks, const std::vector<std::int64_t>& mine) {
  std::vector<std::int64_t> all;
  for (int root = 0; root < ranks.size(); ++root) {
    std::vector<std::int64_t> theirs = mine;
    auto count = std::ssize(theirs);
    ranks.broadcast(host_view(&count, {1}), root);
    theirs.resize(static_cast<std::size_t>(count));
    if (count > 0) ranks.broadcast(host_view(theirs.data(), {count}), root);
    all.insert(all.end(), theirs.begin(), theirs.end());
  }
  return all;
}

}  // namespace

std::string describe(const Damage& damage) {
  if (!damage.what.empty()) return fmt::format("{}: {}", damage.array, damage.what);
  return fmt::format("{}: elements {} to {} differ (bytes {} to {})", damage.array, damage.elements.begin,
                     damage.elements.end - 1, damage.bytes.begin, damage.bytes.end - 1);
}

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
  finish(result, index, gathered(ranks, mine));
  return result;
}

}  // namespace moesaic
