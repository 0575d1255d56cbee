#pragma once
/// Replacing a file so that a reader sees the old one or the new one, never a half.

#include <filesystem>
#include <functional>
#include <iosfwd>

#include "moesaic/base/contract.hpp"

namespace moesaic {

/// Says that `path` cannot be written, with the system's reason (errno).
RunError cannot_write(const std::filesystem::path& path);

/// Writes through a neighbour "`path`.next" and renames it. RunError when that fails.
void replace_file(const std::filesystem::path& path, const std::function<void(std::ostream&)>& write);

}  // namespace moesaic
