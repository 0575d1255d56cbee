#include "file_index.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <span>
#include <sstream>

#include "damage.hpp"
#include "moesaic/base/hash.hpp"
#include "moesaic/comm/agreement.hpp"

namespace moesaic {
namespace {

constexpr std::string_view hashes_group = "/hashes/";

std::int64_t checked_format(const Hdf5File& file) {
  MOESAIC_VALIDATE(file.has_attribute("/", "program") && file.text("/", "program") == "moesaic",
                   "{} is not a checkpoint of moesaic (it has no such mark); name one from a checkpoints/ folder",
                   file.path().string());
  const std::int64_t format = file.integer("/", "format");
  MOESAIC_VALIDATE(
      1 <= format && format <= CheckpointInfo::format,
      "{} has checkpoint format {} and this program reads formats 1 to {}; use the version of moesaic that wrote it",
      file.path().string(), format, CheckpointInfo::format);
  return format;
}

CheckpointInfo read_attributes(const Hdf5File& file) {
  return {.step = file.integer("/", "step"),
          .tokens = file.integer("/", "tokens"),
          .samples = file.integer("/", "samples"),
          .seed = static_cast<std::uint64_t>(file.integer("/", "seed")),
          .grid = file.text("/", "grid"),
          .version = file.has_attribute("/", "version") ? file.text("/", "version") : "",
          .deck = "",
          .config = ""};
}

PlacedArray placed(const Hdf5File& file, const Hdf5Array& array) {
  MOESAIC_VALIDATE(array.type && (array.offset || array.size() == 0),
                   "{}: {} is not stored in one piece (another program wrote or changed it); use the file as it was",
                   file.path().string(), array.name);
  return {array.name, *array.type, array.shape, array.offset.value_or(0)};
}

std::vector<std::int64_t> all_integers(const Hdf5File& file, const char* name) {
  return file.read_integers(name, {0, file.array(name).size()});
}

std::uint64_t hash_of(const std::vector<std::int64_t>& rows) { return hash64(std::as_bytes(std::span(rows))); }

/// Reads the table; a flaw instead of an exception when its own hash differs.
void read_hashes(const Hdf5File& file, FileIndex& index) {
  if (!file.contains(blocks_array) || !file.contains(summary_array)) {
    index.flaw = fmt::format("{} or {} is missing", blocks_array, summary_array);
    return;
  }
  const auto rows = all_integers(file, blocks_array), hashes = all_integers(file, summary_array);
  const auto differs = [&](std::size_t i, std::uint64_t hash) {
    return hashes.size() != 2 || std::bit_cast<std::uint64_t>(hashes[i]) != hash;
  };
  if (differs(0, hash_of(rows)))
    index.flaw = fmt::format("the table of hashes {}, or its own hash in {}, differs", blocks_array, summary_array);
  else if (differs(1, hash64(summary(index.format, index.info, index.arrays))))
    index.flaw = fmt::format("the attributes, the list of arrays, or their hash in {} differ", summary_array);
  else
    index.blocks = blocks_of(rows);
}

/// Fields of an index, a line each; the blocks travel separately.
std::string packed(const FileIndex& index) {
  std::string text = fmt::format("{} {} {} {} {} {}\n{}\n{}\n{}\n", index.format, index.info.step, index.info.tokens,
                                 index.info.samples, index.info.seed, index.arrays.size(), index.info.grid,
                                 index.info.version, index.flaw);
  for (const PlacedArray& array : index.arrays)
    text += fmt::format("{} {} {} {} {}\n", static_cast<int>(array.type), array.offset, array.shape.size(),
                        fmt::join(array.shape, " "), array.name);
  return text;
}

PlacedArray unpacked_array(const std::string& line) {
  std::istringstream fields(line);
  PlacedArray array;
  int type = 0;
  std::size_t rank = 0;
  fields >> type >> array.offset >> rank;
  array.type = static_cast<StorageType>(type);
  array.shape.resize(rank);
  for (std::int64_t& extent : array.shape) fields >> extent;
  fields >> std::ws;
  std::getline(fields, array.name);
  return array;
}

FileIndex unpacked(const std::string& text) {
  std::istringstream lines(text);
  FileIndex index;
  std::size_t arrays = 0;
  lines >> index.format >> index.info.step >> index.info.tokens >> index.info.samples >> index.info.seed >> arrays;
  lines.ignore(1);
  for (std::string* field : {&index.info.grid, &index.info.version, &index.flaw}) std::getline(lines, *field);
  std::string line;
  while (index.arrays.size() < arrays && std::getline(lines, line)) index.arrays.push_back(unpacked_array(line));
  return index;
}

}  // namespace

const PlacedArray* FileIndex::find(std::string_view name) const {
  const auto found = std::lower_bound(arrays.begin(), arrays.end(), name,
                                      [](const PlacedArray& array, std::string_view key) { return array.name < key; });
  return found != arrays.end() && found->name == name ? &*found : nullptr;
}

FileIndex read_index(const Hdf5File& file) {
  FileIndex index;
  index.format = checked_format(file);
  index.info = read_attributes(file);
  for (const Hdf5Array& array : file.arrays())
    if (!array.name.starts_with(hashes_group)) index.arrays.push_back(placed(file, array));
  if (index.format > 1) read_hashes(file, index);
  return index;
}

FileIndex read_index(const std::filesystem::path& path) {
  const Hdf5File file = Hdf5File::open_serial(path);
  try {
    return read_index(file);
  } catch (const RunError& error) {
    throw InputError(fmt::format("{} is damaged ({})", path.string(), error.what()));
  }
}

FileIndex read_index(const std::filesystem::path& path, Communicator& ranks) {
  FileIndex index;
  together(ranks, [&] {
    if (ranks.rank() == 0) index = read_index(path);
  });
  const std::string text = broadcast_text(ranks, packed(index), 0);
  std::vector<std::int64_t> rows = rows_of(index.blocks);
  auto count = static_cast<std::int64_t>(rows.size());
  ranks.broadcast(host_view(&count, {1}), 0);
  rows.resize(static_cast<std::size_t>(count));
  ranks.broadcast(host_view(rows.data(), {count}), 0);
  if (ranks.rank() == 0) return index;
  index = unpacked(text);
  index.blocks = blocks_of(rows);
  return index;
}

std::string summary(std::int64_t format, const CheckpointInfo& info, const std::vector<PlacedArray>& arrays) {
  std::string text = fmt::format("{} {} {} {} {}\n{}\n{}\n", format, info.step, info.tokens, info.samples, info.seed,
                                 info.grid, info.version);
  for (const PlacedArray& array : arrays)
    text += fmt::format("{} {} {}\n", array.name, name_of(array.type), to_text(array.shape));
  return text;
}

void write_attributes(Hdf5File& file, const CheckpointInfo& info) {
  file.set_text("/", "program", "moesaic");
  file.set_text("/", "version", info.version);
  file.set_integer("/", "format", CheckpointInfo::format);
  file.set_integer("/", "step", info.step);
  file.set_integer("/", "tokens", info.tokens);
  file.set_integer("/", "samples", info.samples);
  file.set_integer("/", "seed", static_cast<std::int64_t>(info.seed));
  file.set_text("/", "grid", info.grid);
}

namespace {

/// The numbers of the blocks of array `name` that `text`, its bytes, does not agree with.
std::vector<std::int64_t> differing_blocks(const FileIndex& index, std::string_view name, std::string_view text) {
  std::vector<std::int64_t> found;
  for (std::size_t i = 0; i < index.blocks.size(); ++i) {
    const HashedBlock& block = index.blocks[i];
    if (index.arrays[static_cast<std::size_t>(block.array)].name != name) continue;
    const auto bytes =
        std::as_bytes(std::span(text))
            .subspan(static_cast<std::size_t>(block.elements.begin), static_cast<std::size_t>(block.elements.size()));
    if (hash64(bytes) != block.hash) found.push_back(static_cast<std::int64_t>(i));
  }
  return found;
}

}  // namespace

CheckpointInfo checkpoint_info(const Hdf5File& file) {
  const FileIndex index = read_index(file);
  refuse_damages(file.path(), flaws_of(index));
  CheckpointInfo info = index.info;
  info.deck = file.read_bytes(deck_array);
  info.config = file.read_bytes(config_array);
  refuse_damages(file.path(), damages_of(index, differing_blocks(index, deck_array, info.deck)));
  refuse_damages(file.path(), damages_of(index, differing_blocks(index, config_array, info.config)));
  return info;
}

}  // namespace moesaic
