#pragma once
/// Writing bytes at given places of a file that several processes write together.

#include <cstdint>
#include <filesystem>

#include "moesaic/base/contract.hpp"

namespace moesaic {

/// The disk, or the user's share of it, has no room left.
struct DiskFullError : RunError {
  using RunError::RunError;
};

/// Whether the errno value `error` says so.
bool is_disk_full(int error);

/// A file opened for writing, made when it is not there, never cut. Writes move no position. Movable.
class OutputFile {
 public:
  /// Throws RunError when `path` cannot be made or written.
  explicit OutputFile(std::filesystem::path path);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();

  const std::filesystem::path& path() const { return path_; }

  /// Throws DiskFullError when there is no room, RunError when the disk refuses otherwise.
  void write_at(std::int64_t offset, const void* data, std::int64_t bytes);
  /// Lets the disk begin with what was written there; returns at once.
  void start_writeback(std::int64_t offset, std::int64_t bytes);
  /// Returns when all that was written is on disk.
  void sync();

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

}  // namespace moesaic
