#pragma once
/// Lines for people: rank 0 speaks for the job, the other ranks only when something broke.

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

namespace moesaic {

/// Who this process is in messages. Before it is called a process speaks as rank 0. Not thread-safe: call it
/// once, at the start.
void set_log_identity(int rank, std::string host);

/// Whether standard output reaches a terminal, where progress may be redrawn in place. Found at the start of
/// the program; looks through the pseudo-terminal that Open MPI's launcher puts between.
extern bool is_terminal;

namespace detail {
void write_line(std::string_view text);
void write_warning(std::string_view text);
void write_error(std::string_view text);
}  // namespace detail

/// A plain line on standard output, from rank 0 only.
template <class... Args> void log_line(fmt::format_string<Args...> format, Args&&... args) {
  detail::write_line(fmt::format(format, std::forward<Args>(args)...));
}

/// "warning: ..." on standard error, from rank 0 only.
template <class... Args> void log_warn(fmt::format_string<Args...> format, Args&&... args) {
  detail::write_warning(fmt::format(format, std::forward<Args>(args)...));
}

/// "error: ..." on standard error from rank 0, "rank 17 @ node03: ..." from any other.
template <class... Args> void log_error(fmt::format_string<Args...> format, Args&&... args) {
  detail::write_error(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace moesaic
