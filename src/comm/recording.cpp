#include "moesaic/comm/recording.hpp"

#include <algorithm>
#include <map>

#include "moesaic/base/contract.hpp"

namespace moesaic {

void Recording::compute(std::string name) {
  RecordedEvent event;
  event.name = std::move(name);
  events_.push_back(std::move(event));
}

std::int64_t Recording::initiate(std::string channel, std::string name, std::int64_t sent, std::int64_t received) {
  const auto operation = static_cast<std::int64_t>(initiated_.size());
  initiated_.push_back(events_.size());
  events_.push_back(
      {RecordedEvent::Kind::initiate, std::move(name), label_, std::move(channel), operation, sent, received});
  return operation;
}

void Recording::complete(std::int64_t operation) {
  MOESAIC_EXPECT(0 <= operation && operation < static_cast<std::int64_t>(initiated_.size()));
  RecordedEvent event = events_[initiated_[static_cast<std::size_t>(operation)]];
  event.kind = RecordedEvent::Kind::complete;
  events_.push_back(std::move(event));
}

std::size_t Recording::find(RecordedEvent::Kind kind, const std::string& text, std::size_t from) const {
  const auto matches = [&](const RecordedEvent& event) {
    return event.kind == kind && (event.name == text || event.label == text);
  };
  const auto begin = events_.begin() + static_cast<std::ptrdiff_t>(std::min(from, events_.size()));
  return static_cast<std::size_t>(std::find_if(begin, events_.end(), matches) - events_.begin());
}

void Recording::clear() {
  events_.clear();
  initiated_.clear();
  label_.clear();
}

SimulatedTimes simulate(const Recording& recording, const SimulatedCosts& costs) {
  SimulatedTimes times;
  std::map<std::string, double> channel_free;
  std::map<std::int64_t, double> arrival;
  for (const RecordedEvent& event : recording.events()) {
    switch (event.kind) {
      case RecordedEvent::Kind::compute:
        times.elapsed += costs.compute;
        times.sum += costs.compute;
        break;
      case RecordedEvent::Kind::initiate: {
        double& free = channel_free[event.channel];
        free = std::max(free, times.elapsed) + costs.latency;
        arrival[event.operation] = free;
        times.sum += costs.latency;
        break;
      }
      case RecordedEvent::Kind::complete: times.elapsed = std::max(times.elapsed, arrival.at(event.operation)); break;
    }
  }
  return times;
}

}  // namespace moesaic
