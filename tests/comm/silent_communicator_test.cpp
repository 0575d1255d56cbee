#include "moesaic/comm/silent_communicator.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "moesaic/comm/recording_communicator.hpp"

namespace moesaic {
namespace {

TEST(SilentCommunicator, LeavesValuesAsTheyAre) {
  SilentCommunicator ranks(1, 3, nullptr);
  std::vector<float> mine{1, 2}, all{0, 0, 0, 0, 0, 0};
  ranks.all_gather(host_view(std::as_const(mine).data(), {2}), host_view(all.data(), {6}));
  ranks.all_reduce(host_view(mine.data(), {2}));
  EXPECT_EQ(mine, (std::vector<float>{1, 2}));
  EXPECT_EQ(all, std::vector<float>(6, 0));
  EXPECT_EQ(ranks.rank(), 1);
  EXPECT_EQ(ranks.size(), 3);
}

TEST(SilentCommunicator, SendsTakeUntilTheNext) {
  SilentCommunicator ranks(1, 3, nullptr);
  const float value = 1;
  Pending first = ranks.initiate_send(host_view(&value, {1}), 2);
  EXPECT_TRUE(first.under_way());
  EXPECT_FALSE(first.done());
  Pending second = ranks.initiate_send(host_view(&value, {1}), 2);
  EXPECT_TRUE(first.done());
  EXPECT_FALSE(second.done());
  second.complete();
  EXPECT_TRUE(second.done());
}

/// A reduction holds what comes from the two others until it is completed.
TEST(SilentCommunicator, HoldsTheScratchOfSums) {
  Arena arena(host_memory());
  SilentCommunicator ranks(1, 3, &arena);
  std::vector<float> all(3 * 128), mine(128);
  Pending reducing =
      ranks.initiate_reduce_scatter(host_view(std::as_const(all).data(), {384}), host_view(mine.data(), {128}));
  EXPECT_EQ(arena.used(Label::exchange), 2 * 128 * 4);
  reducing.complete();
  EXPECT_EQ(arena.used(), 0);
}

TEST(SilentCommunicator, TellsARecorderWhatWouldBeSent) {
  Recording recording;
  RecordingCommunicator ranks(std::make_unique<SilentCommunicator>(1, 3, nullptr), "shard", recording);
  std::vector<float> mine{1, 2}, all(6);
  ranks.all_gather(host_view(std::as_const(mine).data(), {2}), host_view(all.data(), {6}));
  EXPECT_EQ(recording.events().front().sent, 2 * 2 * 4);
}

}  // namespace
}  // namespace moesaic
