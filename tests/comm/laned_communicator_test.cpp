#include "moesaic/comm/laned_communicator.hpp"

#include <gtest/gtest.h>

#include "moesaic/comm/recording_communicator.hpp"
#include "moesaic/comm/silent_communicator.hpp"

namespace moesaic {
namespace {

/// The lanes that rank `rank` of `size` takes.
class Lanes {
 public:
  Lanes(int rank, int size, int step) : chain_(make(rank, size, step)) {}

  std::string of_send(int to) { return channel_of(chain_.initiate_send(value(), to)); }
  std::string of_receive(int from) { return channel_of(chain_.initiate_receive(value(), from)); }
  LanedCommunicator& chain() { return chain_; }
  const Recording& recording() const { return recording_; }
  View value() { return host_view(&value_, {1}); }
  std::string channel_of(Pending pending) {
    pending.complete();
    return recording_.events().back().channel;
  }

 private:
  LanedCommunicator make(int rank, int size, int step) {
    std::vector<std::unique_ptr<Communicator>> lanes;
    for (int lane = 0; lane < LanedCommunicator::lanes(size); ++lane)
      lanes.push_back(std::make_unique<RecordingCommunicator>(std::make_unique<SilentCommunicator>(rank, size, nullptr),
                                                              std::to_string(lane), recording_));
    return {std::move(lanes), step};
  }

  float value_ = 0;
  Recording recording_;
  LanedCommunicator chain_;
};

TEST(LanedCommunicator, NeedsNoMoreLanesThanThereAreEdges) {
  EXPECT_EQ(LanedCommunicator::lanes(1), 1);
  EXPECT_EQ(LanedCommunicator::lanes(2), 2);
  EXPECT_EQ(LanedCommunicator::lanes(3), 3);
  EXPECT_EQ(LanedCommunicator::lanes(64), 3);
}

TEST(LanedCommunicator, GoesDownAndBackToTheBeginning) {
  Lanes first(0, 4, 1), second(1, 4, 1), last(3, 4, 1);
  EXPECT_EQ(first.of_send(1), "1");
  EXPECT_EQ(second.of_receive(0), "1");
  EXPECT_EQ(second.of_send(2), "2");
  EXPECT_EQ(last.of_receive(2), "1");
  EXPECT_EQ(last.of_send(0), "0");
  EXPECT_EQ(first.of_receive(3), "0");
}

TEST(LanedCommunicator, GoesUpAndBackToTheEnd) {
  Lanes first(0, 4, -1), second(1, 4, -1), last(3, 4, -1);
  EXPECT_EQ(last.of_send(2), "1");
  EXPECT_EQ(second.of_receive(2), "2");
  EXPECT_EQ(second.of_send(0), "1");
  EXPECT_EQ(first.of_receive(1), "1");
  EXPECT_EQ(first.of_send(3), "0");
  EXPECT_EQ(last.of_receive(0), "0");
}

/// No rank sends and receives on one lane, and both ends of a message take the same one.
TEST(LanedCommunicator, KeepsEveryRanksMessagesApart) {
  for (int step : {1, -1})
    for (int size = 2; size <= 7; ++size)
      for (int rank = 0; rank < size; ++rank) {
        const int next = (rank + step + size) % size, previous = (rank - step + size) % size;
        Lanes mine(rank, size, step), theirs(next, size, step);
        const std::string sends = mine.of_send(next);
        EXPECT_NE(sends, mine.of_receive(previous)) << rank << " of " << size << " by " << step;
        EXPECT_EQ(sends, theirs.of_receive(rank)) << rank << " of " << size << " by " << step;
      }
}

TEST(LanedCommunicator, GroupsAndCollectivesAreTogether) {
  Lanes ranks(0, 2, 1);
  ranks.chain().start_group();
  EXPECT_EQ(ranks.of_send(1), "0");
  EXPECT_EQ(ranks.of_receive(1), "0");
  ranks.chain().end_group();
  EXPECT_EQ(ranks.of_send(1), "1");
  EXPECT_EQ(ranks.channel_of(ranks.chain().initiate_all_reduce(ranks.value())), "0");
  EXPECT_EQ(ranks.channel_of(ranks.chain().initiate_broadcast(ranks.value(), 1)), "0");
}

TEST(LanedCommunicator, ReceivesBeginWhenTheyAreCompleted) {
  Lanes ranks(1, 2, 1);
  Pending receive = ranks.chain().initiate_receive(ranks.value(), 0);
  EXPECT_TRUE(ranks.recording().events().empty());
  receive.complete();
  EXPECT_EQ(ranks.recording().events().size(), 2u);  // initiated and completed
}

}  // namespace
}  // namespace moesaic
