#pragma once
/// What a rank did in which order, and how long that order takes on a simulated clock: the proof that exchange and
/// computation overlap, without a stopwatch.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace moesaic {

/// One thing that happened.
struct RecordedEvent {
  enum class Kind : std::uint8_t { compute, initiate, complete };

  Kind kind = Kind::compute;
  std::string name;            ///< what was computed, or the operation ("all_gather", "barrier", ...)
  std::string label;           ///< of an operation: what it was for, the recording's label when it was initiated
  std::string channel;         ///< of an operation: its communicator
  std::int64_t operation = 0;  ///< of an operation: its number, the same in initiate and complete
  std::int64_t sent = 0;       ///< of an operation: bytes that leave this rank for others
  std::int64_t received = 0;   ///< of an operation: bytes that come from others

  friend bool operator==(const RecordedEvent&, const RecordedEvent&) = default;
};

/// The events of one rank, in order.
class Recording {
 public:
  /// Operations initiated from now on carry `text`.
  void label(std::string text) { label_ = std::move(text); }
  void compute(std::string name);
  /// Returns the operation's number, for complete().
  std::int64_t initiate(std::string channel, std::string name, std::int64_t sent, std::int64_t received);
  void complete(std::int64_t operation);

  const std::vector<RecordedEvent>& events() const { return events_; }
  /// Index of the first event of this kind whose name or label is `text`, from index `from` on; events().size() if
  /// none.
  std::size_t find(RecordedEvent::Kind kind, const std::string& text, std::size_t from = 0) const;
  /// Forgets everything. No operation may be under way.
  void clear();

 private:
  std::vector<RecordedEvent> events_;
  std::vector<std::size_t> initiated_;  ///< operation -> index of its initiate event
  std::string label_;
};

/// The same cost for every compute event, the same latency for every operation, in one arbitrary unit of time.
struct SimulatedCosts {
  double compute = 1;
  double latency = 1;
};

struct SimulatedTimes {
  double elapsed = 0;  ///< on the clock, from the first event to the last
  double sum = 0;      ///< of all costs and latencies: what a rank takes that overlaps nothing
};

/// Plays the events on a clock that starts at 0. Compute moves it by its cost. Initiate moves nothing: the result
/// arrives `latency` after the later of now and the arrival of the channel's operation before (one channel carries
/// one operation at a time, different channels are independent). Complete waits for that arrival. Operations never
/// completed count in the sum only. Example: initiate, compute, complete with cost and latency 1 elapses 1 of a sum
/// of 2.
SimulatedTimes simulate(const Recording& recording, const SimulatedCosts& costs);

}  // namespace moesaic
