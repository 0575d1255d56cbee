#include "damage.hpp"

#include <algorithm>

#include "moesaic/base/hash.hpp"
#include "moesaic/io/input_file.hpp"

namespace moesaic {
namespace {

Damage flaw(const std::string& array, const std::string& what) {
  return {.array = array, .elements = {}, .bytes = {}, .what = what};
}

}  // namespace

std::string describe(const Damage& damage) {
  if (!damage.what.empty()) return fmt::format("{}: {}", damage.array, damage.what);
  return fmt::format("{}: elements {} to {} differ (bytes {} to {})", damage.array, damage.elements.begin,
                     damage.elements.end - 1, damage.bytes.begin, damage.bytes.end - 1);
}

std::vector<Damage> flaws_of(const FileIndex& index) {
  if (index.format == 1) return {};
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

std::vector<Damage> damages_of(const FileIndex& index, std::span<const std::int64_t> numbers) {
  std::vector<Damage> damages;
  for (std::int64_t number : numbers) {
    const HashedBlock& block = index.blocks[static_cast<std::size_t>(number)];
    const PlacedArray& array = index.arrays[static_cast<std::size_t>(block.array)];
    damages.push_back(
        {.array = array.name, .elements = block.elements, .bytes = array.bytes(block.elements), .what = ""});
  }
  return damages;
}

std::vector<std::int64_t> united(Communicator& ranks, const std::vector<std::int64_t>& mine) {
  std::vector<std::int64_t> all;
  for (int root = 0; root < ranks.size(); ++root) {
    std::vector<std::int64_t> theirs = mine;
    auto count = std::ssize(theirs);
    ranks.broadcast(host_view(&count, {1}), root);
    theirs.resize(static_cast<std::size_t>(count));
    if (count > 0) ranks.broadcast(host_view(theirs.data(), {count}), root);
    all.insert(all.end(), theirs.begin(), theirs.end());
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

void refuse_damages(const std::filesystem::path& path, const std::vector<Damage>& damages) {
  if (damages.empty()) return;
  const std::size_t others = damages.size() - 1;
  throw DamagedCheckpointError(
      path, describe(damages.front()) + (others == 0 ? "" : fmt::format(", and {} more blocks", others)));
}

bool read_bytes(const InputFile& file, Block place, std::byte* to) {
  try {
    file.read_at(place.begin, to, place.size());
    return true;
  } catch (const RunError&) {
    return false;
  }
}

bool read_block(const InputFile& file, Block place, std::uint64_t hash, std::byte* to) {
  return read_bytes(file, place, to) && hash64({to, static_cast<std::size_t>(place.size())}) == hash;
}

}  // namespace moesaic
