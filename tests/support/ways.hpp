#pragma once
/// Grids and settings on which every family is compared with its reference.

#include "moesaic/train/settings.hpp"

namespace moesaic {

/// A way to train on `ranks` ranks.
struct Way {
  const char* name;
  int ranks;
  GridRequest grid;
  ContextExchange exchange = ContextExchange::ring;
  Recompute recompute = Recompute::none;
};

inline constexpr Way ways[] = {
    {"plain", 1, {}},
    {"selective", 1, {}, ContextExchange::ring, Recompute::selective},
    {"expert2", 2, {.expert = 2}},
    {"pipeline2", 2, {.pipeline = 2}},
    {"context2ring", 2, {.context = 2}},
    {"context2gather", 2, {.context = 2}, ContextExchange::gather, Recompute::block},
    {"shard3", 3, {}},
    {"pipeline3", 3, {.pipeline = 3}},
    {"expert4", 4, {.expert = 4}},
    {"context4", 4, {.context = 4}},
    {"all", 4, {.pipeline = 2, .context = 2, .expert = 2}, ContextExchange::ring, Recompute::selective},
    {"pipeline3expert2", 6, {.pipeline = 3, .expert = 2}},
    {"context2expert2", 6, {.context = 2, .expert = 2}, ContextExchange::gather},
};

/// Lets `run` train that way.
inline void go(const Way& way, RunSettings& run) {
  run.grid = way.grid;
  run.schedule = way.grid.pipeline > 1 ? ScheduleKind::zero_bubble : ScheduleKind::one_f_one_b;
  run.context_exchange = way.exchange;
  run.recompute = way.recompute;
}

}  // namespace moesaic
