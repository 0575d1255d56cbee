#pragma once
/// When a device gets to a point in the work of its streams.

#include <chrono>
#include <cstdint>
#include <vector>

#include "moesaic/tensor/stream.hpp"

namespace moesaic {

/// Of a GPU's streams by events, which cost a stream about a microsecond each and the host no wait; of the CPU's by the host's
/// clock. Both count from the same zero.
class StreamClock {
 public:
  struct Mark {
    bool event = false;
    std::size_t index = 0;
  };

  /// Makes so many events beforehand where `device` is a GPU; further ones are made as they are needed.
  explicit StreamClock(DeviceKind device, std::size_t events = 0);
  StreamClock(const StreamClock&) = delete;
  StreamClock& operator=(const StreamClock&) = delete;
  ~StreamClock();

  /// Forgets all marks and waits for `stream`: time counts from here.
  void restart(Stream stream);
  /// A point behind all that `stream` holds.
  Mark mark(Stream stream);
  /// When it was passed, in seconds since 1970. Only after wait_for its stream.
  double time(Mark mark) const;

 private:
  using Clock = std::chrono::steady_clock;
  void make_event();
  void record_event(Stream stream);
  double seconds_to_event(std::size_t event) const;

  double zero_ = 0;
  Clock::time_point host_zero_;
  std::vector<Clock::time_point> times_;
  std::vector<void*> events_;  ///< the first is where time counts from
  std::size_t events_used_ = 0;
};

}  // namespace moesaic
