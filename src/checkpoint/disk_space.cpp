#include "disk_space.hpp"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>

namespace moesaic {
namespace {

/// posix_fallocate would write zeros where the file system cannot reserve.
int allocate(int file, std::int64_t bytes) {
  while (::fallocate(file, 0, 0, bytes) != 0)
    if (errno != EINTR) return errno;
  return 0;
}

int compare_free_space(int file, std::int64_t bytes) {
  struct statvfs disk {};
  if (::fstatvfs(file, &disk) != 0) return errno;
  return static_cast<std::int64_t>(disk.f_bavail * disk.f_frsize) < bytes ? ENOSPC : 0;
}

}  // namespace

int reserve_space(const std::filesystem::path& path, std::int64_t bytes) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (file < 0) return errno;
  int error = allocate(file, bytes);
  if (error == EOPNOTSUPP) error = compare_free_space(file, bytes);
  ::close(file);
  return error;
}

}  // namespace moesaic
