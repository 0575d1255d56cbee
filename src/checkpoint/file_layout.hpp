#pragma once
/// The empty file of a checkpoint: every array has its place, none its values yet.

#include <filesystem>
#include <string>
#include <vector>

#include "moesaic/checkpoint/checkpoint.hpp"

namespace moesaic {

/// Where the parts of the file begin, in bytes; 0 for what has no elements.
struct FileLayout {
  std::vector<std::int64_t> arrays;  ///< in the order of `state`
  std::int64_t blocks = 0, summary = 0;
  std::int64_t bytes = 0;  ///< of the whole file
};

/// Creates `path` with the arrays of `state` and a table of `num_blocks` hashes, closes it, and takes its space on the
/// disk. For one process. DiskFullError with the figures when there is no room; then `path` is gone again.
FileLayout lay_out_file(const std::filesystem::path& path, const CheckpointInfo& info,
                        const std::vector<StateArray>& state, std::int64_t num_blocks);

}  // namespace moesaic
