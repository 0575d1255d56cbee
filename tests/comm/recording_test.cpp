#include "moesaic/comm/recording.hpp"

#include <gtest/gtest.h>

namespace moesaic {
namespace {

using Kind = RecordedEvent::Kind;

TEST(Recording, KeepsOrderNamesAndLabels) {
  Recording recording;
  recording.label("block 3 parameters");
  const auto gather = recording.initiate("shard", "all_gather", 30, 40);
  recording.label("something else");
  recording.compute("block 2 forward");
  recording.complete(gather);
  ASSERT_EQ(recording.events().size(), 3u);
  EXPECT_EQ(recording.events()[0],
            (RecordedEvent{Kind::initiate, "all_gather", "block 3 parameters", "shard", 0, 30, 40}));
  EXPECT_EQ(recording.events()[1], (RecordedEvent{Kind::compute, "block 2 forward", "", "", 0, 0, 0}));
  EXPECT_EQ(recording.events()[2],
            (RecordedEvent{Kind::complete, "all_gather", "block 3 parameters", "shard", 0, 30, 40}));
}

TEST(Recording, FindsByNameOrLabel) {
  Recording recording;
  recording.label("unit 0");
  recording.complete(recording.initiate("shard", "all_gather", 0, 0));
  recording.compute("block");
  recording.compute("block");
  EXPECT_EQ(recording.find(Kind::initiate, "unit 0"), 0u);
  EXPECT_EQ(recording.find(Kind::complete, "all_gather"), 1u);
  EXPECT_EQ(recording.find(Kind::compute, "block"), 2u);
  EXPECT_EQ(recording.find(Kind::compute, "block", 3), 3u);
  EXPECT_EQ(recording.find(Kind::compute, "block", 4), 4u);
  EXPECT_EQ(recording.find(Kind::compute, "unit 0"), recording.events().size());
}

TEST(Simulate, AnEmptyRecordingTakesNoTime) {
  EXPECT_EQ(simulate({}, {}).elapsed, 0);
  EXPECT_EQ(simulate({}, {}).sum, 0);
}

TEST(Simulate, NothingOverlapsWhenEachIsCompletedAtOnce) {
  Recording recording;
  for (int block = 0; block < 3; ++block) {
    recording.complete(recording.initiate("shard", "all_gather", 0, 0));
    recording.compute("block");
  }
  const SimulatedTimes times = simulate(recording, {.compute = 4, .latency = 1});
  EXPECT_EQ(times.elapsed, 15);
  EXPECT_EQ(times.sum, 15);
}

TEST(Simulate, APrefetchHidesBehindTheBlockBefore) {
  // gather 0 | gather 1, block 0 | gather 2, block 1 | block 2: only the first latency shows, 3 + 4 + 4 + 4 = 15 of 21.
  Recording recording;
  auto next = recording.initiate("shard", "all_gather", 0, 0);
  for (int block = 0; block < 3; ++block) {
    recording.complete(next);
    if (block < 2) next = recording.initiate("shard", "all_gather", 0, 0);
    recording.compute("block");
  }
  const SimulatedTimes times = simulate(recording, {.compute = 4, .latency = 3});
  EXPECT_EQ(times.elapsed, 15);
  EXPECT_EQ(times.sum, 21);
}

TEST(Simulate, ALongLatencyShowsWhatIsNotHidden) {
  // The prefetched gather arrives at 10 + 10; block 0 ends at 14, block 1 at 24.
  Recording recording;
  recording.complete(recording.initiate("shard", "all_gather", 0, 0));
  const auto next = recording.initiate("shard", "all_gather", 0, 0);
  recording.compute("block");
  recording.complete(next);
  recording.compute("block");
  EXPECT_EQ(simulate(recording, {.compute = 4, .latency = 10}).elapsed, 24);
}

TEST(Simulate, OneChannelCarriesOneOperationAtATime) {
  const auto elapsed = [](const char* second_channel) {
    Recording recording;
    const auto a = recording.initiate("shard", "all_gather", 0, 0);
    const auto b = recording.initiate(second_channel, "all_gather", 0, 0);
    recording.complete(a);
    recording.complete(b);
    return simulate(recording, {.compute = 1, .latency = 5}).elapsed;
  };
  EXPECT_EQ(elapsed("shard"), 10);
  EXPECT_EQ(elapsed("expert"), 5);
}

}  // namespace
}  // namespace moesaic
