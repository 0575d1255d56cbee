#include "moesaic/base/log.hpp"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>

namespace moesaic {
namespace {

struct Identity {
  int rank = 0;
  std::string host;
};

Identity& identity() {
  static Identity current;
  return current;
}

/// Open MPI gives every rank a pseudo-terminal as standard output, so what counts is where mpirun, the
/// parent, writes.
bool parent_writes_to_terminal() {
  std::array<char, 64> target{};
  const std::string link = fmt::format("/proc/{}/fd/1", getppid());
  const ssize_t length = readlink(link.c_str(), target.data(), target.size());
  if (length <= 0) return false;
  const std::string_view name(target.data(), static_cast<std::size_t>(length));
  return name.starts_with("/dev/pts/") || name.starts_with("/dev/tty");
}

bool stdout_is_terminal() {
  if (isatty(STDOUT_FILENO) == 0) return false;
  return std::getenv("OMPI_COMM_WORLD_SIZE") == nullptr || parent_writes_to_terminal();
}

/// One write a line, so that lines of several threads or ranks do not mix.
void write(std::FILE* file, std::string line) {
  line += '\n';
  std::fwrite(line.data(), 1, line.size(), file);
  std::fflush(file);
}

}  // namespace

bool is_terminal = stdout_is_terminal();

void set_log_identity(int rank, std::string host) { identity() = {rank, std::move(host)}; }

namespace detail {

void write_line(std::string_view text) {
  if (identity().rank == 0) write(stdout, std::string(text));
}

void write_warning(std::string_view text) {
  if (identity().rank == 0) write(stderr, fmt::format("warning: {}", text));
}

void write_error(std::string_view text) {
  const auto& [rank, host] = identity();
  write(stderr, rank == 0 ? fmt::format("error: {}", text) : fmt::format("rank {} @ {}: {}", rank, host, text));
}

}  // namespace detail
}  // namespace moesaic
