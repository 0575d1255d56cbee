#include "file_layout.hpp"

#include <cstring>

#include "block_table.hpp"
#include "disk_space.hpp"
#include "file_index.hpp"
#include "moesaic/base/text.hpp"
#include "moesaic/io/output_file.hpp"

namespace moesaic {
namespace fs = std::filesystem;
namespace {

/// An upper bound of the file's size: large arrays begin at whole MiB, headers and attributes are small.
std::int64_t expected_bytes(const std::vector<StateArray>& state, std::int64_t num_blocks) {
  constexpr std::int64_t mebibyte = std::int64_t{1} << 20, header = 1024;
  std::int64_t bytes = 64 * header + num_blocks * block_columns * 8;
  for (const StateArray& array : state) {
    const std::int64_t size = array.shape.size() * size_of(array.type);
    bytes += header + size + (size >= mebibyte ? mebibyte : 0);
  }
  return bytes;
}

void take_space(const fs::path& path, std::int64_t bytes) {
  const int error = reserve_space(path, bytes);
  if (error == 0) return;
  std::error_code ignored;
  fs::remove(path, ignored);
  const fs::space_info disk = fs::space(path.parent_path(), ignored);
  const std::string message = fmt::format(
      "{} cannot be written ({}; it takes {}, {} are free); earlier checkpoints are untouched: free some space",
      path.string(), std::strerror(error), format_bytes(bytes),
      format_bytes(static_cast<std::int64_t>(disk.available)));
  if (is_disk_full(error)) throw DiskFullError(message);
  throw RunError(message);
}

std::int64_t offset_of(const Hdf5File& file, const std::string& name) { return file.array(name).offset.value_or(0); }

}  // namespace

FileLayout lay_out_file(const fs::path& path, const CheckpointInfo& info, const std::vector<StateArray>& state,
                        std::int64_t num_blocks) {
  // Before HDF5 writes anything: what it meets on a full disk it reports too late.
  take_space(path, expected_bytes(state, num_blocks));
  Hdf5File file = Hdf5File::create_serial(path);
  write_attributes(file, info);
  for (const StateArray& array : state) file.create_array(array.name, array.type, shape_of(array.shape));
  file.create_array(blocks_array, DType::i64, {num_blocks, block_columns});
  file.create_array(summary_array, DType::i64, {2});
  FileLayout layout;
  for (const StateArray& array : state) layout.arrays.push_back(offset_of(file, array.name));
  layout.blocks = offset_of(file, blocks_array);
  layout.summary = offset_of(file, summary_array);
  file.close();
  layout.bytes = static_cast<std::int64_t>(fs::file_size(path));
  take_space(path, layout.bytes);
  return layout;
}

}  // namespace moesaic
