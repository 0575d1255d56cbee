#include "moesaic/io/output_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

[[noreturn]] void give_up(const std::filesystem::path& path, const char* action) {
  const int error = errno;
  const std::string message = fmt::format("{}: {} failed ({}); check the folder, its permissions and the free space",
                                          path.string(), action, std::strerror(error));
  if (is_disk_full(error)) throw DiskFullError(message);
  throw RunError(message);
}

}  // namespace

bool is_disk_full(int error) { return error == ENOSPC || error == EDQUOT; }

OutputFile::OutputFile(std::filesystem::path path) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0) give_up(path_, "opening");
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void OutputFile::write_at(std::int64_t offset, const void* data, std::int64_t bytes) {
  const auto* from = static_cast<const char*>(data);
  while (bytes > 0) {
    // Linux moves at most 2 GiB a call, and a signal may cut a call short.
    const ssize_t moved = ::pwrite(descriptor_, from, static_cast<std::size_t>(bytes), offset);
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) give_up(path_, "writing");
    from += moved;
    offset += moved;
    bytes -= moved;
  }
}

void OutputFile::start_writeback(std::int64_t offset, std::int64_t bytes) {
  // A hint: not every file system knows it, and sync() is what counts.
  ::sync_file_range(descriptor_, offset, bytes, SYNC_FILE_RANGE_WRITE);
}

void OutputFile::sync() {
  if (::fsync(descriptor_) != 0) give_up(path_, "bringing to disk");
}

}  // namespace moesaic
