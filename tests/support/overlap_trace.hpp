#pragma once
/// What a rank did, as words that a test can compare.

#include <algorithm>
#include <string>
#include <vector>

#include "moesaic/comm/communicators.hpp"
#include "moesaic/comm/mirror_communicator.hpp"
#include "moesaic/comm/recording_communicator.hpp"
#include "moesaic/parallel/fully_sharded.hpp"

namespace moesaic {

/// Rank 0 of `ranks` shards of dense parameters, on one process; a channel a communicator.
inline Communicators mirrored_communicators(int ranks, Recording& recording) {
  const auto group = [&](int size, const char* channel) {
    return std::make_unique<RecordingCommunicator>(std::make_unique<MirrorCommunicator>(size), channel, recording);
  };
  return {.world = group(ranks, "world"),
          .context = group(1, "context"),
          .tokens = group(ranks, "tokens"),
          .pipeline_down = group(1, "pipeline_down"),
          .pipeline_up = group(1, "pipeline_up"),
          .dense_shard = group(ranks, "dense_shard"),
          .dense_replicate = group(1, "dense_replicate"),
          .expert = group(1, "expert"),
          .expert_shard = group(ranks, "expert_shard"),
          .expert_replicate = group(1, "expert_replicate")};
}

using Trace = std::vector<std::string>;

/// A word an event: "gather U" and "gathered U", "reduce U" and "reduced U" of unit U, which is told by the bytes of
/// its slice (so all units must differ in them); computations, and the start of anything else, by name.
inline Trace trace_of(const Recording& recording, const FullySharded& sharding, int ranks) {
  const auto unit_of = [&](const RecordedEvent& event) -> std::string {
    for (const auto& unit : sharding.units())
      if (unit->values().bytes() * (ranks - 1) == event.sent) return unit->spec().name;
    return "?";
  };
  Trace trace;
  for (const RecordedEvent& event : recording.events()) {
    const bool complete = event.kind == RecordedEvent::Kind::complete;
    if (event.name == "all_gather")
      trace.push_back((complete ? "gathered " : "gather ") + unit_of(event));
    else if (event.name == "reduce_scatter")
      trace.push_back((complete ? "reduced " : "reduce ") + unit_of(event));
    else if (!complete)
      trace.push_back(event.name);
  }
  return trace;
}

/// Whether `early` stands in the trace, and before the first `late`.
inline bool comes_before(const Trace& trace, const std::string& early, const std::string& late) {
  const auto first = std::find(trace.begin(), trace.end(), early), second = std::find(trace.begin(), trace.end(), late);
  return first != trace.end() && second != trace.end() && first < second;
}

/// From the first "`from`" on.
inline Trace trace_from(const Trace& trace, const std::string& from) {
  return {std::find(trace.begin(), trace.end(), from), trace.end()};
}

}  // namespace moesaic
