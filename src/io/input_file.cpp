#include "moesaic/io/input_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

/// Size of an open regular file; -1 for anything else.
std::int64_t regular_size(int descriptor) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) return -1;
  return status.st_size;
}

}  // namespace

InputFile::InputFile(std::filesystem::path path) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  MOESAIC_VALIDATE(descriptor_ >= 0, "{}: cannot be opened ({}); check the path and its permissions", path_.string(),
                   std::strerror(errno));
  size_ = regular_size(descriptor_);
  if (size_ >= 0) return;
  ::close(descriptor_);
  throw InputError(fmt::format("{}: not a regular file (its size must be known); name a file", path_.string()));
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)), size_(other.size_) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_, other.size_);
  return *this;
}

InputFile::~InputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void InputFile::read_at(std::int64_t offset, void* out, std::int64_t bytes) const {
  auto* to = static_cast<char*>(out);
  while (bytes > 0) {
    // Linux moves at most 2 GiB a call, and a signal may cut a call short.
    const ssize_t moved = ::pread(descriptor_, to, static_cast<std::size_t>(bytes), offset);
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) {
      throw RunError(fmt::format("{}: reading {} bytes at {} failed ({}); check the disk and whether the file changed",
                                 path_.string(), bytes, offset, moved < 0 ? std::strerror(errno) : "the file ends"));
    }
    to += moved;
    offset += moved;
    bytes -= moved;
  }
}

std::string read_text(const std::filesystem::path& path, std::int64_t most_bytes) {
  const InputFile file(path);
  MOESAIC_VALIDATE(file.size() <= most_bytes, "{}: {} bytes (at most {} are read as text); is it the right file?",
                   path.string(), file.size(), most_bytes);
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  file.read_at(0, text.data(), file.size());
  return text;
}

void sync_path(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool synced = descriptor >= 0 && ::fsync(descriptor) == 0;
  const int error = errno;
  if (descriptor >= 0) ::close(descriptor);
  if (synced) return;
  throw RunError(fmt::format("{}: not brought to disk ({}); it may be lost in a power failure; check the disk",
                             path.string(), std::strerror(error)));
}

}  // namespace moesaic
