#include "moesaic/train/stop_conditions.hpp"

#include <charconv>
#include <cstdlib>
#include <cstring>

namespace moesaic {

using std::chrono::duration;
using std::chrono::system_clock;

namespace {
/// Wall limits count what comes before the first step too: large checkpoints take long to read.
const StopConditions::Clock::time_point program_began = StopConditions::Clock::now();
}  // namespace

const char* name_of(StopReason reason) {
  switch (reason) {
    case StopReason::none: return "none";
    case StopReason::signal: return "signal";
    case StopReason::stop_file: return "stop_file";
    case StopReason::wall_limit: return "wall_limit";
    case StopReason::end_of_allocation: return "end_of_allocation";
  }
  return "";
}

std::optional<system_clock::time_point> allocation_end() {
  const char* text = std::getenv("SLURM_JOB_END_TIME");
  if (text == nullptr) return std::nullopt;
  std::int64_t seconds = 0;
  const char* end = text + std::strlen(text);
  const auto [stopped, error] = std::from_chars(text, end, seconds);
  if (error != std::errc() || stopped != end || seconds <= 0) return std::nullopt;
  return system_clock::time_point(std::chrono::seconds(seconds));
}

StopConditions::StopConditions(const std::filesystem::path& run_directory, bool speaks, double wall_limit,
                               std::optional<system_clock::time_point> allocation_end)
    : file_(run_directory / "stop"), speaks_(speaks), wall_limit_(wall_limit), allocation_end_(allocation_end) {}

StopReason StopConditions::reason(double needed) const {
  if (request_.signal() != 0) return StopReason::signal;
  if (!speaks_) return StopReason::none;
  if (wall_limit_ > 0 && duration<double>(Clock::now() - program_began).count() >= wall_limit_)
    return StopReason::wall_limit;
  if (allocation_end_ && duration<double>(*allocation_end_ - system_clock::now()).count() < needed)
    return StopReason::end_of_allocation;
  std::error_code ignored;
  if (std::filesystem::exists(file_, ignored)) return StopReason::stop_file;
  return StopReason::none;
}

void StopConditions::obeyed() const {
  std::error_code ignored;
  if (speaks_) std::filesystem::remove(file_, ignored);
}

}  // namespace moesaic
