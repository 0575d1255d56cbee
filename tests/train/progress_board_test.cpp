#include "moesaic/train/progress_board.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace moesaic {
namespace {

constexpr Seconds ten{10};

ProgressBoard board_of(int ranks) {
  std::vector<std::string> hosts;
  for (int r = 0; r < ranks; ++r) hosts.push_back(r < 2 ? "left" : "right");
  return ProgressBoard(hosts);
}

void hear_all(ProgressBoard& board, const Position& position, Seconds now) {
  for (int r = 0; r < board.size(); ++r) board.hear(r, Condition::alive, position, now);
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(StallLimitTest, AFixedLimitHoldsFromTheStart) {
  StallLimit limit(Seconds(7.5));
  EXPECT_EQ(limit.value(), Seconds(7.5));
  for (int i = 0; i < 20; ++i) limit.step_finished(Seconds(100));
  EXPECT_EQ(limit.value(), Seconds(7.5));
}

TEST(StallLimitTest, TenMinutesBeforeTenSteps) {
  StallLimit limit;
  for (int i = 0; i < 9; ++i) limit.step_finished(Seconds(1));
  EXPECT_EQ(limit.value(), Seconds(600));
  limit.step_finished(Seconds(1));
  EXPECT_EQ(limit.value(), Seconds(60));
}

TEST(StallLimitTest, FiveTimesThe99thPercentile) {
  StallLimit limit;
  for (int i = 1; i <= 100; ++i) limit.step_finished(Seconds(i));
  EXPECT_EQ(limit.value(), Seconds(5 * 99)) << "99 of 100 steps took at most 99 s";
}

TEST(StallLimitTest, OldStepsAreForgotten) {
  StallLimit limit;
  for (int i = 0; i < 20; ++i) limit.step_finished(Seconds(100));
  for (int i = 0; i < 981; ++i) limit.step_finished(Seconds(20));
  EXPECT_EQ(limit.value(), Seconds(500)) << "19 of the 1,000 latest took 100 s";
  for (int i = 0; i < 9; ++i) limit.step_finished(Seconds(20));
  EXPECT_EQ(limit.value(), Seconds(100)) << "10 of the 1,000 latest took 100 s";
}

TEST(StallLimitTest, ActingLeavesTimeForTheEnd) {
  EXPECT_DOUBLE_EQ(time_to_act(Seconds(10)).count(), 7);
  EXPECT_DOUBLE_EQ(time_to_act(Seconds(60)).count(), 57);
  EXPECT_DOUBLE_EQ(time_to_act(Seconds(1)).count(), 0.7);
}

TEST(FindStallTest, NothingWhileRanksMove) {
  ProgressBoard board = board_of(3);
  for (int i = 0; i < 5; ++i) {
    hear_all(board, {1, Phase::forward, i}, Seconds(9 * i));
    EXPECT_EQ(find_stall(board, Seconds(9 * i + 9), ten), std::nullopt);
  }
}

TEST(FindStallTest, AHeartbeatFromTheSamePlaceIsNoProgress) {
  ProgressBoard board = board_of(3);
  for (int t = 0; t <= 10; ++t) hear_all(board, {4, Phase::forward, 2}, Seconds(t));
  EXPECT_EQ(find_stall(board, Seconds(9.9), ten), std::nullopt);
  EXPECT_EQ(find_stall(board, Seconds(10), ten), (Finding{Stall::tie, {0, 1, 2}}));
}

TEST(FindStallTest, TheSilentRankIsToBlameWhereverTheOthersStand) {
  ProgressBoard board = board_of(3);
  hear_all(board, {4, Phase::forward, 2}, Seconds(0));
  board.hear(1, Condition::alive, {5, Phase::data, 0}, Seconds(1));
  for (int t = 2; t <= 10; ++t) {
    board.hear(0, Condition::alive, {4, Phase::forward, 2}, Seconds(t));
    board.hear(2, Condition::alive, {4, Phase::forward, 2}, Seconds(t));
  }
  EXPECT_EQ(find_stall(board, Seconds(10), ten), (Finding{Stall::silence, {1}}));
}

TEST(FindStallTest, ARankThatWasNeverHeardOfIsSilentButEndsNothing) {
  ProgressBoard board = board_of(2);
  board.hear(0, Condition::alive, {1, Phase::forward, 0}, Seconds(95));
  EXPECT_EQ(find_stall(board, Seconds(100), ten), std::nullopt);
  board.hear(0, Condition::alive, {1, Phase::forward, 0}, Seconds(105));
  EXPECT_EQ(find_stall(board, Seconds(105), ten), (Finding{Stall::silence, {1}}));
}

TEST(FindStallTest, ElseTheRankAtTheLeastPlace) {
  ProgressBoard board = board_of(3);
  const auto stand = [&](Seconds now) {
    board.hear(0, Condition::alive, {4, Phase::backward, 3}, now);
    board.hear(1, Condition::alive, {4, Phase::backward, 3}, now);
    board.hear(2, Condition::alive, {4, Phase::backward, 1}, now);  // one micro-batch behind, in the same phase
  };
  stand(Seconds(0));
  stand(Seconds(10));
  EXPECT_EQ(find_stall(board, Seconds(10), ten), (Finding{Stall::lag, {2}}));
}

TEST(FindStallTest, AnEarlierStepIsBehind) {
  ProgressBoard board = board_of(2);
  for (const Seconds now : {Seconds(0), Seconds(10)}) {
    board.hear(0, Condition::alive, {5, Phase::data, 0}, now);
    board.hear(1, Condition::alive, {4, Phase::other, 9}, now);
  }
  EXPECT_EQ(find_stall(board, Seconds(10), ten), (Finding{Stall::lag, {1}}));
}

TEST(FindStallTest, LostAndFailedRanksEndARunAtOnce) {
  ProgressBoard board = board_of(3);
  hear_all(board, {1, Phase::forward, 0}, Seconds(0));
  board.lose(1);
  EXPECT_EQ(find_stall(board, Seconds(0), ten), (Finding{Stall::loss, {1}}));
  board.hear(2, Condition::failed, {1, Phase::forward, 0}, Seconds(0));
  EXPECT_EQ(find_stall(board, Seconds(0), ten), (Finding{Stall::failure, {2}})) << "what failed came first";
}

TEST(FindStallTest, ARankThatHasLeftIsNotMissed) {
  ProgressBoard board = board_of(2);
  hear_all(board, {9, Phase::other, 3}, Seconds(0));
  board.hear(1, Condition::left, {9, Phase::other, 3}, Seconds(1));
  board.lose(1);
  board.hear(0, Condition::alive, {9, Phase::other, 4}, Seconds(25));
  EXPECT_EQ(find_stall(board, Seconds(30), ten), std::nullopt);
}

TEST(DescribeTest, NamesTheLaggardFirst) {
  ProgressBoard board = board_of(3);
  hear_all(board, {12, Phase::forward, 2}, Seconds(0));
  board.hear(0, Condition::alive, {12, Phase::forward, 2}, Seconds(7));
  board.hear(1, Condition::alive, {12, Phase::forward, 2}, Seconds(7));
  EXPECT_EQ(describe(board, {Stall::silence, {2}}, Seconds(7)),
            "rank 2 is silent (stopped, or cut off), in step 12, forward, no progress for 7.0s; the job ends\n"
            "ranks  host       step  phase           since  state\n"
            "    2  right        12  forward          7.0s  silent  <-\n"
            "    0  left         12  forward          7.0s  alive\n"
            "    1  left         12  forward          7.0s  alive");
}

TEST(DescribeTest, SaysWhatBecameOfEachRank) {
  ProgressBoard board = board_of(5);
  board.hear(1, Condition::alive, {3, Phase::checkpoint, 7}, Seconds(0));
  board.lose(1);
  board.hear(2, Condition::failed, {3, Phase::checkpoint, 7}, Seconds(0));
  board.hear(3, Condition::left, {3, Phase::checkpoint, 7}, Seconds(0));
  board.hear(4, Condition::alive, {3, Phase::checkpoint, 7}, Seconds(0));
  const std::string text = describe(board, {Stall::failure, {2}}, Seconds(1));
  EXPECT_TRUE(text.starts_with("rank 2 failed, in step 3, checkpoint; the job ends\n")) << text;
  EXPECT_TRUE(contains(text, "\n    0  left          -  -                   -  never heard of")) << text;
  for (const char* state : {"gone", "failed  <-", "at the end", "alive"})
    EXPECT_TRUE(contains(text, state)) << state << "\n" << text;
}

TEST(DescribeTest, ManyRanksShareLines) {
  ProgressBoard board(std::vector<std::string>(1000, "node"));
  hear_all(board, {8, Phase::backward, 1}, Seconds(0));
  board.lose(5);
  board.lose(6);
  const std::string text = describe(board, {Stall::loss, {5, 6}}, Seconds(1));
  EXPECT_TRUE(text.starts_with("ranks 5, 6 are gone")) << text;
  EXPECT_TRUE(contains(text, "\n0-4, 7-999  node")) << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3) << text;
}

}  // namespace
}  // namespace moesaic
