#pragma once
/// Reading bytes of a file at given places, and making written files durable.

#include <cstdint>
#include <filesystem>
#include <string>

namespace moesaic {

/// A regular file opened for reading. Reads move no position, so threads may share it. Movable.
class InputFile {
 public:
  /// Throws InputError when `path` is missing, unreadable or no regular file.
  explicit InputFile(std::filesystem::path path);
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;
  ~InputFile();

  const std::filesystem::path& path() const { return path_; }
  /// Bytes, when it was opened.
  std::int64_t size() const { return size_; }

  /// Reads exactly `bytes` bytes from `offset` on. Throws RunError on a read error or when the file ends before.
  void read_at(std::int64_t offset, void* out, std::int64_t bytes) const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::int64_t size_ = 0;
};

/// The whole of a text file of at most `most_bytes`; InputError when it is missing or larger.
std::string read_text(const std::filesystem::path& path, std::int64_t most_bytes = 100'000'000);

/// Returns when the file or folder at `path` is on disk (fsync). Throws RunError.
void sync_path(const std::filesystem::path& path);

}  // namespace moesaic
