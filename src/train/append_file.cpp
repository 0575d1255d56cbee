#include "append_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "moesaic/base/log.hpp"
#include "moesaic/io/output_file.hpp"
#include "replace_file.hpp"

namespace moesaic {

int AppendFile::write_waiting() {
  const int file = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file < 0) return errno;
  const off_t size = ::lseek(file, 0, SEEK_END);
  std::size_t done = 0;
  int error = 0;
  while (done < waiting_.size() && error == 0) {
    const ssize_t written = ::write(file, waiting_.data() + done, waiting_.size() - done);
    if (written >= 0)
      done += static_cast<std::size_t>(written);
    else if (errno != EINTR)
      error = errno;
  }
  // A network file system may say only now that there is no room, and then not of how much: all of it is written again.
  if (::close(file) != 0 && error == 0) {
    error = errno;
    if (size >= 0 && ::truncate(path_.c_str(), size) == 0) done = 0;
  }
  waiting_.erase(0, done);
  return error;
}

void AppendFile::write(std::string_view text) {
  waiting_ += text;
  const int error = write_waiting();
  if (error != 0 && !is_disk_full(error)) {
    errno = error;
    throw cannot_write(path_);
  }
  if (error != 0 && !warned_)
    log_warn("{} has no room on the disk; what belongs there waits in memory: free some space", path_.string());
  warned_ = error != 0;
}

}  // namespace moesaic
