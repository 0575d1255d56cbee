#pragma once
/// What a checkpoint file says of itself: everything but the arrays' values.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "block_table.hpp"
#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/comm/communicator.hpp"
#include "moesaic/io/hdf5_file.hpp"

namespace moesaic {

inline constexpr const char* deck_array = "/deck";
inline constexpr const char* config_array = "/config";
/// [blocks, 4] integers: block_table.hpp.
inline constexpr const char* blocks_array = "/hashes/blocks";
/// [2] integers: the hash of the table's bytes, and that of what summary() says.
inline constexpr const char* summary_array = "/hashes/summary";

/// An array's place in the file.
struct PlacedArray {
  std::string name;
  StorageType type = StorageType::u8;
  Shape shape;
  std::int64_t offset = 0;  ///< first byte; 0 for an array without elements

  std::int64_t size() const { return element_count(shape).value_or(0); }
  std::int64_t width() const { return size_of(type); }
  /// Where `elements` lie in the file.
  Block bytes(Block elements) const { return {offset + elements.begin * width(), offset + elements.end * width()}; }
};

struct FileIndex {
  std::int64_t format = CheckpointInfo::format;
  CheckpointInfo info;              ///< deck and config are read separately
  std::vector<PlacedArray> arrays;  ///< in the order of names, the hashes themselves left out
  std::vector<HashedBlock> blocks;  ///< sorted
  std::string flaw;                 ///< why the hashes or the list of arrays cannot be trusted; empty: they can

  /// Null when there is none of that name.
  const PlacedArray* find(std::string_view name) const;
};

/// Reads the index with one process. InputError as checkpoint_info, or when an array is not stored in one piece.
FileIndex read_index(const Hdf5File& file);
FileIndex read_index(const std::filesystem::path& path);
/// Read by the first rank for all. Collective.
FileIndex read_index(const std::filesystem::path& path, Communicator& ranks);

/// All that the second hash of `summary_array` covers: the attributes, and the arrays' names, types and shapes.
std::string summary(std::int64_t format, const CheckpointInfo& info, const std::vector<PlacedArray>& arrays);

/// Writes the attributes that summary() covers.
void write_attributes(Hdf5File& file, const CheckpointInfo& info);

}  // namespace moesaic
