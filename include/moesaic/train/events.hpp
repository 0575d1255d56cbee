#pragma once
/// What happened beside the numbers: events.jsonl, and the one-line `status` file.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace moesaic {

class AppendFile;

/// For rank 0 alone. Files are appended to (events) or replaced atomically (status). RunError when they cannot be
/// written; only events wait for room on a full disk.
class RunRecord {
 public:
  /// `run_directory` exists. An event that a crash cut short is ended, so that the next begins on a line of its own.
  explicit RunRecord(const std::filesystem::path& run_directory);
  RunRecord(const RunRecord&) = delete;
  ~RunRecord();
  /// One JSON object on a line: time (UTC, ISO 8601), event, step and the facts, whose names are none of these three.
  void event(std::string_view event, std::int64_t step, const std::map<std::string, std::string>& facts = {});
  /// "running 120", "complete 1100", "stopped 640" or "failed 87".
  void status(std::string_view state, std::int64_t step);
  /// What the status file says; empty when there is none.
  std::string status() const;

 private:
  std::filesystem::path directory_;
  std::unique_ptr<AppendFile> events_;
};

}  // namespace moesaic
