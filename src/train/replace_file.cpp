#include "replace_file.hpp"

#include <cerrno>
#include <cstring>
#include <fstream>

namespace moesaic {
namespace fs = std::filesystem;

RunError cannot_write(const fs::path& path) {
  const char* reason = errno != 0 ? std::strerror(errno) : "unknown reason";
  return RunError(fmt::format("{} cannot be written ({}); check the space and the permissions of run.directory",
                              path.string(), reason));
}

void replace_file(const fs::path& path, const std::function<void(std::ostream&)>& write) {
  const fs::path next = path.string() + ".next";
  errno = 0;
  std::ofstream file(next, std::ios::binary | std::ios::trunc);
  if (file) write(file);
  file.close();
  if (!file) throw cannot_write(next);
  std::error_code error;
  fs::rename(next, path, error);
  if (error)
    throw RunError(fmt::format("{} cannot be replaced ({}); check run.directory", path.string(), error.message()));
}

}  // namespace moesaic
