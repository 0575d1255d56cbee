#pragma once
/// Grids and settings on which training is compared with references.

#include "moesaic/train/settings.hpp"

namespace moesaic {

/// A way to train on `ranks` ranks.
struct Way {
  const char* name;
  int ranks;
  GridRequest grid;
  ScheduleKind schedule = ScheduleKind::one_f_one_b;
  ContextExchange exchange = ContextExchange::ring;
  Recompute recompute = Recompute::none;
  bool reduce_every_micro_batch = true;
};

inline constexpr ScheduleKind zero_bubble = ScheduleKind::zero_bubble, interleaved = ScheduleKind::interleaved;
inline constexpr ContextExchange ring = ContextExchange::ring, gather = ContextExchange::gather;

/// For every family.
inline constexpr Way family_ways[] = {
    {"plain", 1, {}},
    {"selective", 1, {}, {}, ring, Recompute::selective},
    {"expert2", 2, {.expert = 2}},
    {"pipeline2", 2, {.pipeline = 2}, zero_bubble},
    {"context2ring", 2, {.context = 2}},
    {"context2gather", 2, {.context = 2}, {}, gather, Recompute::block},
    {"shard3", 3, {}},
    {"pipeline3", 3, {.pipeline = 3}, zero_bubble},
    {"expert4", 4, {.expert = 4}},
    {"context4", 4, {.context = 4}},
    {"all", 4, {.pipeline = 2, .context = 2, .expert = 2}, zero_bubble, ring, Recompute::selective},
    {"pipeline3expert2", 6, {.pipeline = 3, .expert = 2}, zero_bubble},
    {"context2expert2", 6, {.context = 2, .expert = 2}, {}, gather},
};

/// Lets `run` train that way.
inline void go(const Way& way, RunSettings& run) {
  run.grid = way.grid;
  run.schedule = way.schedule;
  run.chunks = way.schedule == interleaved ? 2 : 1;
  run.context_exchange = way.exchange;
  run.recompute = way.recompute;
  run.reduce_every_micro_batch = way.reduce_every_micro_batch;
}

}  // namespace moesaic
