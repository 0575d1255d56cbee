#include "moesaic/train/phases.hpp"

namespace moesaic {

const char* name_of(Phase phase) {
  static constexpr const char* names[num_phases] = {"start",     "data",       "forward",    "backward",
                                                    "optimizer", "validation", "checkpoint", "other"};
  return names[static_cast<int>(phase)];
}

Phase Phases::enter(Phase phase) {
  const auto now = Clock::now();
  seconds_[static_cast<std::size_t>(now_)] += std::chrono::duration<double>(now - since_).count();
  since_ = now;
  on_enter_(phase);
  return std::exchange(now_, phase);
}

double Phases::seconds(Phase phase) const { return seconds_[static_cast<std::size_t>(phase)]; }

}  // namespace moesaic
