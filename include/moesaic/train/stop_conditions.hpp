#pragma once
/// Everything that ends a run early and well: behind a checkpoint, to be gone on with.

#include <chrono>
#include <filesystem>
#include <optional>

#include "moesaic/train/stop_request.hpp"

namespace moesaic {

enum class StopReason : std::uint8_t { none, signal, stop_file, wall_limit, end_of_allocation };
/// As events.jsonl calls it: "signal", "stop_file", "wall_limit", "end_of_allocation".
const char* name_of(StopReason reason);

/// When the job's allocation ends as Slurm says (SLURM_JOB_END_TIME, seconds since 1970); nothing outside of Slurm.
std::optional<std::chrono::system_clock::time_point> allocation_end();

/// One a run, made when it starts. Each rank asks its own; the step's reduction carries the answers.
class StopConditions {
 public:
  using Clock = std::chrono::steady_clock;

  /// `speaks`: this rank looks for the file `stop` in the run directory and at the clock, and says in the end why the run
  /// stopped. One rank does: clocks differ, and a file system has better things to do; signals are noted by all.
  /// wall_limit in seconds since the program began, 0: none.
  StopConditions(const std::filesystem::path& run_directory, bool speaks, double wall_limit,
                 std::optional<std::chrono::system_clock::time_point> allocation_end = moesaic::allocation_end());

  /// Why the run should end after the step that begins now. `needed`: seconds that this step, a checkpoint and leaving
  /// take; an allocation that ends sooner than that is about to end.
  StopReason reason(double needed) const;
  /// Removes the file `stop`, so that the next run does not end too.
  void obeyed() const;

 private:
  std::filesystem::path file_;
  bool speaks_;
  double wall_limit_;
  std::optional<std::chrono::system_clock::time_point> allocation_end_;
  StopRequest request_;
};

}  // namespace moesaic
