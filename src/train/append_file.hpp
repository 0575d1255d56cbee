#pragma once
/// A file that is only ever added to, and a disk that is full at times.

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

namespace moesaic {

/// What a full disk does not take waits in memory, is warned of once, and goes first at the next write.
class AppendFile {
 public:
  /// The file is made by the first write.
  explicit AppendFile(std::filesystem::path path) : path_(std::move(path)) {}

  /// Handed to the operating system when this returns, or waiting. RunError when it cannot be written for another reason
  /// than a full disk.
  void write(std::string_view text);

 private:
  /// Writes what waits; returns 0, or the error that stopped it.
  int write_waiting();

  std::filesystem::path path_;
  std::string waiting_;
  bool warned_ = false;
};

}  // namespace moesaic
