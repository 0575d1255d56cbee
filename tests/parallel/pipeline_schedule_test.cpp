#include "moesaic/parallel/pipeline_schedule.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <tuple>

#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

using Schedule = std::vector<ScheduleStep>;

struct Case {
  ScheduleKind kind;
  int stages;
  int chunks;
  std::int64_t micro_batches;

  std::vector<Schedule> schedules() const { return make_schedules(kind, stages, chunks, micro_batches); }
  std::string text() const {
    return fmt::format("{}, {} stages, {} chunks, {} micro-batches", name_of(kind), stages, chunks, micro_batches);
  }
};

void for_each_case(const std::function<void(const Case&)>& check) {
  for (int stages = 1; stages <= 8; ++stages) {
    for (std::int64_t micro_batches = 0; micro_batches <= 20; ++micro_batches) {
      std::vector<Case> cases{{ScheduleKind::one_f_one_b, stages, 1, micro_batches},
                              {ScheduleKind::zero_bubble, stages, 1, micro_batches}};
      for (int chunks = 1; chunks <= 4; ++chunks)
        cases.push_back({ScheduleKind::interleaved, stages, chunks, micro_batches});
      for (const Case& each : cases) {
        SCOPED_TRACE(each.text());
        check(each);
      }
    }
  }
}

/// Weight halves that take no longer than the others, as zero bubble's formula asks.
const std::vector<PipelineCosts> exact_costs{{1, 1, 1, 0}, {2, 3, 1, 0}, {5, 1, 1, 0}, {3, 4, 3, 0}, {1, 2, 0, 0}};

std::vector<std::int64_t> micro_batches_of(const Schedule& schedule, Work work, int chunk) {
  std::vector<std::int64_t> order;
  for (const ScheduleStep& step : schedule)
    if (step.work == work && step.chunk == chunk) order.push_back(step.micro_batch);
  return order;
}

Schedule steps_of(std::initializer_list<std::pair<char, int>> steps) {
  const std::map<char, Work> works{
      {'F', Work::forward}, {'B', Work::backward}, {'I', Work::backward_input}, {'W', Work::backward_weight}};
  Schedule schedule;
  for (const auto& [letter, micro_batch] : steps) schedule.push_back({works.at(letter), micro_batch, 0});
  return schedule;
}

TEST(PipelineSchedule, OneForwardOneBackwardByHand) {
  EXPECT_EQ(make_schedules(ScheduleKind::one_f_one_b, 2, 1, 3),
            (std::vector<Schedule>{steps_of({{'F', 0}, {'F', 1}, {'B', 0}, {'F', 2}, {'B', 1}, {'B', 2}}),
                                   steps_of({{'F', 0}, {'B', 0}, {'F', 1}, {'B', 1}, {'F', 2}, {'B', 2}})}));
}

TEST(PipelineSchedule, ZeroBubbleByHand) {
  EXPECT_EQ(make_schedules(ScheduleKind::zero_bubble, 2, 1, 2),
            (std::vector<Schedule>{steps_of({{'F', 0}, {'F', 1}, {'I', 0}, {'W', 0}, {'I', 1}, {'W', 1}}),
                                   steps_of({{'F', 0}, {'I', 0}, {'F', 1}, {'I', 1}, {'W', 0}, {'W', 1}})}));
}

/// Groups of two micro-batches; the second lacks micro-batch 3.
TEST(PipelineSchedule, InterleavedByHand) {
  const Work forward = Work::forward, backward = Work::backward;
  EXPECT_EQ(make_schedule(ScheduleKind::interleaved, 2, 1, 2, 3), (Schedule{{forward, 0, 0},
                                                                            {forward, 1, 0},
                                                                            {forward, 0, 1},
                                                                            {backward, 0, 1},
                                                                            {forward, 1, 1},
                                                                            {backward, 1, 1},
                                                                            {forward, 2, 0},
                                                                            {backward, 0, 0},
                                                                            {backward, 1, 0},
                                                                            {forward, 2, 1},
                                                                            {backward, 2, 1},
                                                                            {backward, 2, 0}}));
}

TEST(PipelineSchedule, OneInterleavedChunkIsOneForwardOneBackward) {
  EXPECT_EQ(make_schedules(ScheduleKind::interleaved, 4, 1, 7), make_schedules(ScheduleKind::one_f_one_b, 4, 1, 7));
}

TEST(PipelineSchedule, OnlyInterleavedTakesChunks) {
  for (const ScheduleKind kind : {ScheduleKind::one_f_one_b, ScheduleKind::zero_bubble})
    EXPECT_THROW(make_schedule(kind, 4, 0, 2, 8), InputError);
}

TEST(PipelineSchedule, EveryStepOnceAndAscendingInEveryChunk) {
  for_each_case([](const Case& each) {
    std::vector<std::int64_t> ascending(each.micro_batches);
    for (std::int64_t i = 0; i < each.micro_batches; ++i) ascending[i] = i;
    const std::vector<std::int64_t> none;
    const bool split = each.kind == ScheduleKind::zero_bubble;
    for (const Schedule& schedule : each.schedules()) {
      for (int chunk = 0; chunk < each.chunks; ++chunk) {
        EXPECT_EQ(micro_batches_of(schedule, Work::forward, chunk), ascending);
        EXPECT_EQ(micro_batches_of(schedule, Work::backward, chunk), split ? none : ascending);
        EXPECT_EQ(micro_batches_of(schedule, Work::backward_input, chunk), split ? ascending : none);
        EXPECT_EQ(micro_batches_of(schedule, Work::backward_weight, chunk), split ? ascending : none);
      }
      EXPECT_EQ(std::ssize(schedule), (split ? 3 : 2) * each.chunks * each.micro_batches);
    }
  });
}

/// When each step of the whole pipeline ran, by (work, micro-batch, virtual stage); halves count as backward.
using Times = std::map<std::tuple<Work, std::int64_t, int>, BusyInterval>;

Times times_of(const Case& each, const PipelineTimeline& timeline) {
  Times times;
  for (int stage = 0; stage < each.stages; ++stage) {
    for (const BusyInterval& busy : timeline.stages[stage]) {
      const Work work = busy.step.work == Work::backward_input ? Work::backward : busy.step.work;
      times[{work, busy.step.micro_batch, busy.step.chunk * each.stages + stage}] = busy;
    }
  }
  return times;
}

void expect_before(const Times& times, const std::tuple<Work, std::int64_t, int>& first, const BusyInterval& second) {
  ASSERT_TRUE(times.contains(first));
  EXPECT_LE(times.at(first).end, second.begin);
}

TEST(PipelineSchedule, NoDeadlockAndEveryStepAfterItsInputs) {
  for_each_case([](const Case& each) {
    const PipelineTimeline timeline = simulate_pipeline(each.schedules(), {2, 3, 1, 0.5});
    ASSERT_FALSE(timeline.deadlock);
    const Times times = times_of(each, timeline);
    for (const auto& [key, busy] : times) {
      const auto& [work, micro_batch, at] = key;
      if (work == Work::forward && at > 0) expect_before(times, {Work::forward, micro_batch, at - 1}, busy);
      if (work == Work::backward) expect_before(times, {Work::forward, micro_batch, at}, busy);
      if (work == Work::backward && at + 1 < each.stages * each.chunks)
        expect_before(times, {Work::backward, micro_batch, at + 1}, busy);
      if (work == Work::backward_weight) expect_before(times, {Work::backward, micro_batch, at}, busy);
    }
  });
}

TEST(PipelineSchedule, AStageDoesOneThingAtATime) {
  for_each_case([](const Case& each) {
    for (const auto& stage : simulate_pipeline(each.schedules(), {2, 3, 1, 0.5}).stages)
      for (std::size_t i = 1; i < stage.size(); ++i) EXPECT_LE(stage[i - 1].end, stage[i].begin);
  });
}

TEST(PipelineSchedule, BubbleEqualsItsFormula) {
  for_each_case([](const Case& each) {
    if (each.micro_batches == 0) return;
    for (const PipelineCosts& costs : exact_costs) {
      const auto passes = static_cast<double>(each.micro_batches * each.chunks);
      const double work = passes * (costs.forward + costs.backward_input + costs.backward_weight);
      const double bubble = simulate_pipeline(each.schedules(), costs).makespan - work;
      const double formula = bubble_of(each.kind, each.stages, each.chunks, each.micro_batches, costs);
      if (each.chunks == 1 || each.micro_batches % each.stages == 0)
        EXPECT_EQ(bubble, formula);
      else
        EXPECT_LE(bubble, formula);
    }
  });
}

TEST(PipelineSchedule, BubblesOfFourStagesByHand) {
  const PipelineCosts costs{2, 3, 1, 0};
  EXPECT_EQ(bubble_of(ScheduleKind::one_f_one_b, 4, 1, 8, costs), 3 * (2 + 3 + 1));
  EXPECT_EQ(bubble_of(ScheduleKind::zero_bubble, 4, 1, 8, costs), 3 * (2 + 3 - 1));
  // Two chunks, so half the costs a step: half the bubble.
  EXPECT_EQ(bubble_of(ScheduleKind::interleaved, 4, 2, 8, {1, 1.5, 0.5, 0}), 3 * (2 + 3 + 1) / 2);
}

TEST(PipelineSchedule, PeakOfActivationsEqualsItsFormula) {
  for_each_case([](const Case& each) {
    const PipelineTimeline timeline = simulate_pipeline(each.schedules(), {});
    for (int stage = 0; stage < each.stages; ++stage)
      EXPECT_EQ(timeline.peak_activations[stage],
                peak_activations_of(each.kind, each.stages, stage, each.chunks, each.micro_batches));
  });
}

TEST(PipelineSchedule, PeaksOfFourStagesByHand) {
  for (int stage = 0; stage < 4; ++stage) {
    EXPECT_EQ(peak_activations_of(ScheduleKind::one_f_one_b, 4, stage, 1, 8), 4 - stage);
    EXPECT_EQ(peak_activations_of(ScheduleKind::one_f_one_b, 4, stage, 1, 2), std::min(2, 4 - stage));
    EXPECT_EQ(peak_activations_of(ScheduleKind::zero_bubble, 4, stage, 1, 8), 4);
    EXPECT_EQ(peak_activations_of(ScheduleKind::zero_bubble, 4, stage, 1, 3), 3);
    EXPECT_EQ(peak_activations_of(ScheduleKind::interleaved, 4, stage, 2, 8), 2 * (3 - stage) + 4 + 1);
    // Micro-batch 0 alone: its two chunks are passes 0 and 4 of the group of four, both among the first w + 1.
    EXPECT_EQ(peak_activations_of(ScheduleKind::interleaved, 4, stage, 2, 1), 2);
  }
}

TEST(PipelineSchedule, TransfersByHand) {
  const ScheduleStep forward{Work::forward, 5, 1}, backward{Work::backward_input, 5, 1};
  EXPECT_EQ(source_of(forward, 4, 0, 2), (StageChunk{3, 0}));
  EXPECT_EQ(destination_of(forward, 4, 0, 2), (StageChunk{1, 1}));
  EXPECT_EQ(source_of(backward, 4, 0, 2), (StageChunk{1, 1}));
  EXPECT_EQ(destination_of(backward, 4, 0, 2), (StageChunk{3, 0}));
}

TEST(PipelineSchedule, TheEndsOfThePipelineHaveNoNeighbour) {
  EXPECT_EQ(source_of({Work::forward, 0, 0}, 4, 0, 2), std::nullopt);
  EXPECT_EQ(destination_of({Work::forward, 0, 1}, 4, 3, 2), std::nullopt);
  EXPECT_EQ(source_of({Work::backward, 0, 1}, 4, 3, 2), std::nullopt);
  EXPECT_EQ(destination_of({Work::backward, 0, 0}, 4, 0, 2), std::nullopt);
  EXPECT_EQ(source_of({Work::backward_weight, 0, 0}, 4, 1, 1), std::nullopt);
  EXPECT_EQ(destination_of({Work::backward_weight, 0, 0}, 4, 1, 1), std::nullopt);
}

/// What travels from one stage to another, in the order of the steps: (gradient, micro-batch, receiving virtual stage).
using Messages = std::map<std::pair<int, int>, std::vector<std::tuple<bool, std::int64_t, int>>>;

/// Sends and receives without tags match: each pair of stages agrees on the order of what passes between them.
TEST(PipelineSchedule, MessagesArriveInTheOrderInWhichTheyAreAwaited) {
  for_each_case([](const Case& each) {
    Messages sent, awaited;
    const std::vector<Schedule> schedules = each.schedules();
    for (int stage = 0; stage < each.stages; ++stage) {
      for (const ScheduleStep& step : schedules[stage]) {
        const bool gradient = step.work != Work::forward;
        if (const auto to = destination_of(step, each.stages, stage, each.chunks))
          sent[{stage, to->stage}].emplace_back(gradient, step.micro_batch, to->chunk * each.stages + to->stage);
        if (const auto from = source_of(step, each.stages, stage, each.chunks))
          awaited[{from->stage, stage}].emplace_back(gradient, step.micro_batch, step.chunk * each.stages + stage);
      }
    }
    EXPECT_EQ(sent, awaited);
  });
}

/// F0 at 0..2, then the gradient of stage 1: 2 + 0.5, forward, backward 4, 0.5.
TEST(PipelineSimulation, LatencyByHand) {
  const PipelineTimeline timeline =
      simulate_pipeline(make_schedules(ScheduleKind::one_f_one_b, 2, 1, 1), {2, 3, 1, 0.5});
  EXPECT_EQ(timeline.stages[1][0].begin, 2.5);
  EXPECT_EQ(timeline.stages[0][1].begin, 9);
  EXPECT_EQ(timeline.makespan, 13);
}

TEST(PipelineSimulation, ACycleIsADeadlock) {
  std::vector<Schedule> schedules = make_schedules(ScheduleKind::one_f_one_b, 2, 1, 2);
  std::swap(schedules[0][1], schedules[0][2]);
  EXPECT_FALSE(simulate_pipeline(schedules, {}).deadlock);  // F0 B0 F1 B1: slower, but it runs
  std::swap(schedules[1][0], schedules[1][2]);              // F1 B0 F0 B1 waits for F1, stage 0 for B0
  const PipelineTimeline timeline = simulate_pipeline(schedules, {});
  EXPECT_TRUE(timeline.deadlock);
  EXPECT_EQ(timeline.stages[0].size(), 1U);
  EXPECT_TRUE(timeline.stages[1].empty());
}

TEST(PipelineSimulation, AMissingForwardIsADeadlock) {
  EXPECT_TRUE(simulate_pipeline({steps_of({{'B', 0}})}, {}).deadlock);
  EXPECT_TRUE(simulate_pipeline({steps_of({{'F', 0}, {'W', 0}, {'I', 0}})}, {}).deadlock);
}

TEST(PipelineDrawing, OneForwardOneBackwardByHand) {
  const auto schedules = make_schedules(ScheduleKind::one_f_one_b, 2, 1, 2);
  EXPECT_EQ(draw_pipeline(simulate_pipeline(schedules, {1, 1, 1, 0}), 1),
            "stage 0 | F0 F1 .  .  B0--- .  B1---\n"
            "stage 1 | .  F0 B0--- F1 B1--- .  .\n");
}

TEST(PipelineDrawing, ZeroBubbleByHand) {
  const auto schedules = make_schedules(ScheduleKind::zero_bubble, 2, 1, 2);
  EXPECT_EQ(draw_pipeline(simulate_pipeline(schedules, {2, 2, 2, 0}), 2),
            "stage 0 | F0 F1 .  B0 W0 B1 W1\n"
            "stage 1 | .  F0 B0 F1 B1 W0 W1\n");
}

TEST(PipelineDrawing, ChunksStandBehindADot) {
  const auto schedules = make_schedules(ScheduleKind::interleaved, 1, 2, 1);
  EXPECT_EQ(draw_pipeline(simulate_pipeline(schedules, {1, 1, 0, 0}), 1), "stage 0 | F0.0 F0.1 B0.1 B0.0\n");
}

TEST(PipelineDrawing, LongLinesAreCut) {
  const auto schedules = make_schedules(ScheduleKind::one_f_one_b, 1, 1, 3);
  EXPECT_EQ(draw_pipeline(simulate_pipeline(schedules, {1, 1, 0, 0}), 1, 22), "stage 0 | F0 B0 F1 ...\n");
}

}  // namespace
}  // namespace moesaic
