#include "moesaic/comm/recording_communicator.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "moesaic/comm/exchange_counts.hpp"
#include "moesaic/comm/mirror_communicator.hpp"

namespace moesaic {
namespace {

using Kind = RecordedEvent::Kind;

template <class T> View flat(std::vector<T>& values) {
  return host_view(values.data(), {static_cast<std::int64_t>(values.size())});
}

TEST(MirrorCommunicator, OtherRanksHoldTheSame) {
  MirrorCommunicator mirror(3);
  std::vector<float> mine{1, 2}, all(6), sums{5, 6};
  mirror.all_gather(flat(mine), flat(all));
  EXPECT_EQ(all, (std::vector<float>{1, 2, 1, 2, 1, 2}));
  mirror.reduce_scatter(flat(all), flat(mine));
  EXPECT_EQ(mine, (std::vector<float>{3, 6}));
  mirror.all_reduce(flat(sums));
  EXPECT_EQ(sums, (std::vector<float>{15, 18}));
  EXPECT_EQ(exchange_counts(mirror, std::vector<std::int64_t>{7, 8, 9}), (std::vector<std::int64_t>{7, 7, 7}));
}

TEST(MirrorCommunicator, AllToAllGivesWhatThisRankKeepsAndZeros) {
  MirrorCommunicator mirror(3);
  std::vector<float> send{1, 2, 9, 9}, receive(6, -1);
  mirror.all_to_all(flat(send), std::vector<std::int64_t>{2, 1, 1}, flat(receive), std::vector<std::int64_t>{2, 1, 3});
  EXPECT_EQ(receive, (std::vector<float>{1, 2, 1, 1, 2, 0}));
}

TEST(MirrorCommunicator, ARingBringsBackWhatWasSent) {
  MirrorCommunicator mirror(4);
  std::vector<float> keys{1, 2}, received(2, -1);
  Pending receive = mirror.initiate_receive(flat(received), 3);
  mirror.initiate_send(flat(keys), 1).complete();
  receive.complete();
  EXPECT_EQ(received, keys);
  mirror.initiate_receive(flat(received), 3).complete();
  EXPECT_EQ(received, (std::vector<float>{0, 0}));
}

TEST(RecordingCommunicator, CountsTheBytesThatLeaveAndReachARank) {
  Recording recording;
  RecordingCommunicator comm(std::make_unique<MirrorCommunicator>(4), "shard", recording);
  std::vector<float> mine(3), all(12);
  std::vector<float> rows(10);
  comm.all_gather(flat(mine), flat(all));
  comm.reduce_scatter(flat(all), flat(mine));
  comm.all_reduce(flat(all));
  // Rows of two floats: 4 leave (1 stays), 3 come (1 stays).
  comm.all_to_all(host_view(rows.data(), {5, 2}), std::vector<std::int64_t>{1, 1, 0, 3}, host_view(rows.data(), {4, 2}),
                  std::vector<std::int64_t>{1, 0, 3, 0});
  comm.initiate_send(flat(mine), 1).complete();
  comm.initiate_receive(flat(mine), 3).complete();
  comm.broadcast(flat(mine), 0);
  comm.broadcast(flat(mine), 2);
  const std::vector<std::vector<std::int64_t>> expected{{36, 36}, {36, 36}, {72, 72}, {32, 24},
                                                        {12, 0},  {0, 12},  {36, 0},  {0, 12}};
  ASSERT_EQ(recording.events().size(), 2 * expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(recording.events()[2 * i].sent, expected[i][0]) << recording.events()[2 * i].name;
    EXPECT_EQ(recording.events()[2 * i].received, expected[i][1]) << recording.events()[2 * i].name;
  }
}

TEST(RecordingCommunicator, RecordsInitiationAndCompletionApart) {
  Recording recording;
  RecordingCommunicator shard(std::make_unique<MirrorCommunicator>(2), "shard", recording);
  RecordingCommunicator expert(std::make_unique<MirrorCommunicator>(2), "expert", recording);
  std::vector<float> mine{1}, all(2), sum{2};
  recording.label("unit 1");
  Pending gather = shard.initiate_all_gather(flat(mine), flat(all));
  recording.label("tokens");
  Pending reduce = expert.initiate_all_reduce(flat(sum));
  recording.compute("block 0");
  EXPECT_EQ(all, (std::vector<float>{0, 0})) << "a mirror must not finish before complete()";
  gather.complete();
  gather.complete();
  reduce.complete();
  EXPECT_EQ(all, (std::vector<float>{1, 1}));
  ASSERT_EQ(recording.events().size(), 5u);
  EXPECT_EQ(recording.find(Kind::initiate, "unit 1"), 0u);
  EXPECT_EQ(recording.find(Kind::initiate, "tokens"), 1u);
  EXPECT_EQ(recording.find(Kind::compute, "block 0"), 2u);
  EXPECT_EQ(recording.find(Kind::complete, "unit 1"), 3u);
  EXPECT_EQ(recording.events()[3].channel, "shard");
  EXPECT_EQ(recording.events()[4].channel, "expert");
  // 2 and 2 side by side behind the block of 3.
  EXPECT_EQ(simulate(recording, {.compute = 3, .latency = 2}).elapsed, 3);
  EXPECT_EQ(simulate(recording, {.compute = 3, .latency = 2}).sum, 7);
}

}  // namespace
}  // namespace moesaic
