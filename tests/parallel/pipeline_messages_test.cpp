// Every schedule ends on GPUs, where messages are kept nowhere on their way: a send is over when it is received, and a stage
// that has sent its next one waits for that; where receives begin a step ahead, and where they begin with their step
// (comm/laned_communicator.hpp), though CUDA may then wait for all that is under way in the middle of any step.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>

#include "moesaic/parallel/pipeline_schedule.hpp"

namespace moesaic {
namespace {

/// Activations or gradients from one stage to another, in order.
struct Route {
  bool down = true;
  int from = 0, to = 0;
  friend auto operator<=>(const Route&, const Route&) = default;
};

struct Counts {
  std::int64_t sent = 0, awaited = 0;
  std::int64_t passed() const { return std::min(sent, awaited); }
};

/// What else may hold a step up in its middle.
enum class Waits { for_nothing, for_receives, for_all };

struct Manner {
  bool receives_ahead = false;
  Waits waits = Waits::for_nothing;
};

/// The stages of one schedule, each as far as it comes.
class Stages {
 public:
  Stages(const Manner& manner, ScheduleKind kind, int stages, int chunks, std::int64_t micro_batches)
      : manner_(manner), chunks_(chunks), schedules_(make_schedules(kind, stages, chunks, micro_batches)),
        stages_(schedules_.size()) {
    for (int s = 0; s < stages && manner.receives_ahead; ++s) await(s, 0);
  }

  /// Runs them until none goes on; whether all came to their end.
  bool end() {
    for (bool moved = true; moved;) {
      moved = false;
      for (int s = 0; s < std::ssize(stages_); ++s)
        while (advance(s)) moved = true;
    }
    for (int s = 0; s < std::ssize(stages_); ++s)
      if (stage(s).step < steps(s)) return false;
    return true;
  }

 private:
  enum class Phase { before, waiting, received, sent };
  struct Stage {
    std::int64_t step = 0;
    Phase phase = Phase::before;  ///< of the step
    std::map<Route, std::int64_t> received;
  };

  Stage& stage(int s) { return stages_[static_cast<std::size_t>(s)]; }
  const ScheduleStep& at(int s, std::int64_t i) const {
    return schedules_[static_cast<std::size_t>(s)][static_cast<std::size_t>(i)];
  }
  std::int64_t steps(int s) const { return std::ssize(schedules_[static_cast<std::size_t>(s)]); }
  std::optional<Route> route_to(int s, const ScheduleStep& step) const {
    const auto source = source_of(step, static_cast<int>(stages_.size()), s, chunks_);
    if (!source) return std::nullopt;
    return Route{step.work == Work::forward, source->stage, s};
  }
  std::optional<Route> route_from(int s, const ScheduleStep& step) const {
    const auto target = destination_of(step, static_cast<int>(stages_.size()), s, chunks_);
    if (!target) return std::nullopt;
    return Route{step.work == Work::forward, s, target->stage};
  }

  void await(int s, std::int64_t i) {
    if (i >= steps(s)) return;
    if (const auto route = route_to(s, at(s, i))) ++routes_[*route].awaited;
  }

  /// The next thing that stage `s` does, where it may.
  bool advance(int s) {
    Stage& here = stage(s);
    if (here.step >= steps(s)) return false;
    const ScheduleStep& step = at(s, here.step);
    switch (here.phase) {
      case Phase::before: await(s, manner_.receives_ahead ? here.step + 1 : here.step); break;
      case Phase::waiting:
        if (!receive(here, s, step)) return false;
        break;
      case Phase::received:
        if (held_up(s)) return false;
        if (const auto route = route_from(s, step)) ++routes_[*route].sent;
        break;
      case Phase::sent:
        if (!departed(s)) return false;
        here.phase = Phase::before;
        ++here.step;
        return true;
    }
    here.phase = static_cast<Phase>(static_cast<int>(here.phase) + 1);
    return true;
  }

  bool receive(Stage& here, int s, const ScheduleStep& step) {
    const auto route = route_to(s, step);
    if (!route) return true;
    if (routes_[*route].passed() <= here.received[*route]) return false;
    ++here.received[*route];
    return true;
  }

  bool held_up(int s) const {
    for (const auto& [route, counts] : routes_) {
      if (manner_.waits != Waits::for_nothing && route.to == s && counts.passed() < counts.awaited) return true;
      if (manner_.waits == Waits::for_all && route.from == s && counts.passed() < counts.sent) return true;
    }
    return false;
  }

  /// Of all that stage `s` has sent on a route, all but the last has arrived.
  bool departed(int s) const {
    for (const auto& [route, counts] : routes_)
      if (route.from == s && counts.passed() + 1 < counts.sent) return false;
    return true;
  }

  Manner manner_;
  int chunks_;
  std::vector<std::vector<ScheduleStep>> schedules_;
  std::vector<Stage> stages_;
  std::map<Route, Counts> routes_;
};

/// All pipelines of up to 6 stages and 13 micro-batches.
void expect_end(const Manner& manner, ScheduleKind kind, int most_chunks) {
  for (int stages = 2; stages <= 6; ++stages)
    for (std::int64_t micro_batches = 1; micro_batches <= 13; ++micro_batches)
      for (int chunks = std::min(2, most_chunks); chunks <= most_chunks; ++chunks)
        EXPECT_TRUE(Stages(manner, kind, stages, chunks, micro_batches).end())
            << name_of(kind) << ", " << stages << " stages of " << chunks << ", " << micro_batches << " micro-batches";
}

TEST(PipelineMessages, EndWhenReceivesBeginAhead) {
  const Manner ahead{.receives_ahead = true};
  expect_end(ahead, ScheduleKind::one_f_one_b, 1);
  expect_end(ahead, ScheduleKind::zero_bubble, 1);
  expect_end(ahead, ScheduleKind::interleaved, 4);
}

TEST(PipelineMessages, EndThoughEveryStepWaitsForAllThatIsUnderWay) {
  expect_end({.waits = Waits::for_all}, ScheduleKind::one_f_one_b, 1);
  expect_end({.waits = Waits::for_all}, ScheduleKind::zero_bubble, 1);
  expect_end({.waits = Waits::for_receives}, ScheduleKind::interleaved, 4);
}

/// Why receives begin with their step.
TEST(PipelineMessages, DoNotEndWhenReceivesBeginAheadAndStepsWait) {
  const Manner both{.receives_ahead = true, .waits = Waits::for_receives};
  EXPECT_FALSE(Stages(both, ScheduleKind::one_f_one_b, 2, 1, 4).end());
  EXPECT_FALSE(Stages(both, ScheduleKind::zero_bubble, 2, 1, 4).end());
}

}  // namespace
}  // namespace moesaic
