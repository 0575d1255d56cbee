#pragma once
/// Where a run's time goes, by named phase.

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <utility>

namespace moesaic {

enum class Phase : std::uint8_t { start, data, forward, backward, optimizer, validation, checkpoint, other };
inline constexpr int num_phases = 8;
const char* name_of(Phase phase);

/// A stopwatch that is always in exactly one phase.
class Phases {
 public:
  /// `on_enter` hears of every phase that begins.
  explicit Phases(std::function<void(Phase)> on_enter = [](Phase) {}) : on_enter_(std::move(on_enter)) {}

  /// Ends the present phase and begins another; returns the one that ended.
  Phase enter(Phase phase);
  /// Seconds spent in `phase` so far.
  double seconds(Phase phase) const;

 private:
  using Clock = std::chrono::steady_clock;
  std::function<void(Phase)> on_enter_;
  Phase now_ = Phase::start;
  Clock::time_point since_ = Clock::now();
  std::array<double, num_phases> seconds_{};
};

}  // namespace moesaic
