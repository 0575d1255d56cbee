#include "moesaic/comm/mpi_communicator.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "moesaic/base/contract.hpp"
#include "moesaic/comm/exchange_counts.hpp"

namespace moesaic {
namespace {

template <class T> View flat(std::vector<T>& values) {
  return host_view(values.data(), {static_cast<std::int64_t>(values.size())});
}

/// A value that depends on rank and index and whose sums round.
float odd_value(int rank, std::int64_t i) {
  return std::sin(static_cast<float>(i % 4096) * 1.7f + static_cast<float>(rank)) *
         std::pow(10.0f, static_cast<float>((i + rank) % 7));
}

std::vector<float> odd_values(int rank, std::int64_t size) {
  std::vector<float> values(static_cast<std::size_t>(size));
  for (std::int64_t i = 0; i < size; ++i) values[static_cast<std::size_t>(i)] = odd_value(rank, i);
  return values;
}

/// What a serial loop over the ranks gives.
std::vector<float> serial_sums(int ranks, std::int64_t size) {
  std::vector<float> sums = odd_values(0, size);
  for (int r = 1; r < ranks; ++r) {
    const std::vector<float> values = odd_values(r, size);
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += values[i];
  }
  return sums;
}

/// Parameter: the longest message in bytes; 12 cuts everything to pieces, and splits 8-byte values.
class MpiCommunicatorTest : public ::testing::TestWithParam<std::int64_t> {
 protected:
  Arena arena{host_memory()};
  MpiCommunicator comm{MpiHandle::duplicate(MPI_COMM_WORLD), arena, GetParam()};
  int rank = comm.rank();
  int size = comm.size();

  ~MpiCommunicatorTest() override { EXPECT_EQ(arena.used(), 0) << "scratch was not given back"; }
};

INSTANTIATE_TEST_SUITE_P(MessageBytes, MpiCommunicatorTest,
                         ::testing::Values(12, MpiCommunicator::default_max_message_bytes));

TEST_P(MpiCommunicatorTest, AllGatherConcatenatesInRankOrder) {
  std::vector<std::int64_t> mine{10 * rank, 10 * rank + 1, 10 * rank + 2}, all(3 * size, -1), expected;
  for (int r = 0; r < size; ++r) expected.insert(expected.end(), {10 * r, 10 * r + 1, 10 * r + 2});
  comm.all_gather(flat(mine), flat(all));
  EXPECT_EQ(all, expected);
}

TEST_P(MpiCommunicatorTest, AllGatherWorksInPlace) {
  std::vector<std::uint8_t> all(5 * size, 255), expected;
  for (int i = 0; i < 5; ++i) all[5 * rank + i] = static_cast<std::uint8_t>(16 * rank + i);
  for (int i = 0; i < 5 * size; ++i) expected.push_back(static_cast<std::uint8_t>(16 * (i / 5) + i % 5));
  comm.all_gather(flat(all).rows(5 * rank, 5 * rank + 5), flat(all));
  EXPECT_EQ(all, expected);
}

TEST_P(MpiCommunicatorTest, ReduceScatterSumsThisRanksPlace) {
  // Element i of rank r is 100 r + i: the sum at i is 100 size (size - 1) / 2 + size i.
  std::vector<double> all(4 * size), mine(4), expected;
  for (int i = 0; i < 4 * size; ++i) all[i] = 100 * rank + i;
  for (int i = 4 * rank; i < 4 * rank + 4; ++i) expected.push_back(50 * size * (size - 1) + size * i);
  comm.reduce_scatter(flat(all), flat(mine));
  EXPECT_EQ(mine, expected);
}

TEST_P(MpiCommunicatorTest, ReduceScatterHasTheBitsOfASerialLoop) {
  const std::int64_t n = GetParam() < 1000 ? 700 : 150'001;
  std::vector<float> all = odd_values(rank, n * size), mine(static_cast<std::size_t>(n));
  const std::vector<float> sums = serial_sums(size, n * size);
  comm.reduce_scatter(flat(all), flat(mine));
  EXPECT_EQ(std::memcmp(mine.data(), sums.data() + n * rank, sizeof(float) * mine.size()), 0);
}

TEST_P(MpiCommunicatorTest, AllReduceHasTheBitsOfASerialLoopOnBothPaths) {
  const std::int64_t small = MpiCommunicator::small_all_reduce_bytes / 4;
  for (const std::int64_t n : {std::int64_t{1}, std::int64_t{1000}, small, small + 1, std::int64_t{600'011}}) {
    if (GetParam() < 1000 && n > small + 1) continue;
    std::vector<float> values = odd_values(rank, n);
    comm.all_reduce(flat(values));
    EXPECT_EQ(std::memcmp(values.data(), serial_sums(size, n).data(), sizeof(float) * values.size()), 0) << n;
  }
}

TEST_P(MpiCommunicatorTest, AllReduceAddsIntegers) {
  std::vector<std::int64_t> large{rank + (std::int64_t{1} << 40), 1};
  std::vector<std::int32_t> ranks{rank};
  comm.all_reduce(flat(large));
  comm.all_reduce(flat(ranks));
  EXPECT_EQ(large, (std::vector<std::int64_t>{size * (size - 1) / 2 + (size * (std::int64_t{1} << 40)), size}));
  EXPECT_EQ(ranks[0], size * (size - 1) / 2);
}

TEST_P(MpiCommunicatorTest, AllToAllMovesUnevenRows) {
  // Rank s sends (s + r) % 3 rows of two to rank r, so some get none; a row is {100 s + r, index}.
  const auto rows = [](int from, int to) { return std::int64_t{(from + to) % 3}; };
  std::vector<std::int64_t> send_rows, receive_rows;
  std::vector<double> send, expected;
  for (int r = 0; r < size; ++r) {
    send_rows.push_back(rows(rank, r));
    receive_rows.push_back(rows(r, rank));
    for (int i = 0; i < rows(rank, r); ++i) send.insert(send.end(), {100.0 * rank + r, 1.0 * i});
    for (int i = 0; i < rows(r, rank); ++i) expected.insert(expected.end(), {100.0 * r + rank, 1.0 * i});
  }
  std::vector<double> receive(expected.size());
  const auto sent = std::accumulate(send_rows.begin(), send_rows.end(), std::int64_t{0});
  const auto received = std::accumulate(receive_rows.begin(), receive_rows.end(), std::int64_t{0});
  Pending pending = comm.initiate_all_to_all(host_view(send.data(), {sent, 2}), send_rows,
                                             host_view(receive.data(), {received, 2}), receive_rows);
  // The spans were copied: changing them now must do nothing.
  send_rows.assign(send_rows.size(), 99);
  receive_rows.assign(receive_rows.size(), 99);
  pending.complete();
  EXPECT_EQ(receive, expected);
}

TEST_P(MpiCommunicatorTest, AllToAllMayGoToOneRankOnly) {
  // Everyone sends rank + 1 rows to rank 0 and nothing to others.
  std::vector<std::int64_t> send_rows(size, 0), receive_rows(size, 0);
  send_rows[0] = rank + 1;
  std::vector<std::int32_t> send(rank + 1, rank), expected;
  for (int r = 0; rank == 0 && r < size; ++r) {
    receive_rows[r] = r + 1;
    expected.insert(expected.end(), r + 1, r);
  }
  std::vector<std::int32_t> receive(expected.size());
  comm.all_to_all(flat(send), send_rows, flat(receive), receive_rows);
  EXPECT_EQ(receive, expected);
}

TEST_P(MpiCommunicatorTest, ExchangeCountsTransposes) {
  std::vector<std::int64_t> counts, expected;
  for (int r = 0; r < size; ++r) {
    counts.insert(counts.end(), {100 * rank + r, -1 - rank});
    expected.insert(expected.end(), {100 * r + rank, -1 - r});
  }
  EXPECT_EQ(exchange_counts(comm, counts), expected);
}

TEST_P(MpiCommunicatorTest, SendAndReceiveGoRoundARing) {
  std::vector<float> mine(7, static_cast<float>(rank)), from_previous(7, -1.0f);
  const int next = (rank + 1) % size, previous = (rank + size - 1) % size;
  Pending receive = comm.initiate_receive(flat(from_previous), previous);
  Pending send = comm.initiate_send(flat(mine), next);
  receive.complete();
  send.complete();
  EXPECT_EQ(from_previous, std::vector<float>(7, static_cast<float>(previous)));
}

TEST_P(MpiCommunicatorTest, MessagesOfAPairKeepTheirOrder) {
  if (size == 1) GTEST_SKIP() << "needs two ranks";
  std::vector<float> first(5, 1.0f), second(6, 2.0f);
  if (rank == 0) {
    Pending a = comm.initiate_send(flat(first), 1), b = comm.initiate_send(flat(second), 1);
    b.complete();
    a.complete();
  } else if (rank == 1) {
    std::vector<float> one(5), two(6);
    Pending a = comm.initiate_receive(flat(one), 0), b = comm.initiate_receive(flat(two), 0);
    b.complete();
    a.complete();
    EXPECT_EQ(one, first);
    EXPECT_EQ(two, second);
  }
}

TEST_P(MpiCommunicatorTest, BroadcastFromEveryRoot) {
  for (int root = 0; root < size; ++root) {
    std::vector<double> values{rank + 0.5, rank + 0.25, rank + 0.125};
    comm.broadcast(flat(values), root);
    EXPECT_EQ(values, (std::vector<double>{root + 0.5, root + 0.25, root + 0.125}));
  }
}

TEST_P(MpiCommunicatorTest, ZeroCountsAreLegal) {
  std::vector<float> none;
  const std::vector<std::int64_t> rows(size, 0);
  comm.all_gather(flat(none), flat(none));
  comm.reduce_scatter(flat(none), flat(none));
  comm.all_reduce(flat(none));
  comm.all_to_all(host_view(none.data(), {0, 3}), rows, host_view(none.data(), {0, 3}), rows);
  comm.all_to_all(View(), rows, View(), rows);
  comm.broadcast(flat(none), 0);
  Pending receive = comm.initiate_receive(flat(none), rank), send = comm.initiate_send(flat(none), rank);
  receive.complete();
  send.complete();
  comm.barrier();
}

TEST_P(MpiCommunicatorTest, CollectivesUnderWayTogetherAreKeptApart) {
  std::vector<double> mine{1.0 * rank, 2.0 * rank}, gathered(2 * size), expected_gathered;
  for (int r = 0; r < size; ++r) expected_gathered.insert(expected_gathered.end(), {1.0 * r, 2.0 * r});
  std::vector<float> large = odd_values(rank, 5000), small = odd_values(rank, 3), all = odd_values(rank, 8 * size),
                     part(8);
  Pending a = comm.initiate_all_gather(flat(mine), flat(gathered));
  Pending b = comm.initiate_all_reduce(flat(large));
  Pending c = comm.initiate_reduce_scatter(flat(all), flat(part));
  Pending d = comm.initiate_all_reduce(flat(small));
  EXPECT_TRUE(size == 1 || a.under_way());
  for (Pending* pending : {&d, &b, &c, &a, &b}) pending->complete();
  EXPECT_FALSE(a.under_way());
  EXPECT_EQ(gathered, expected_gathered);
  EXPECT_EQ(large, serial_sums(size, 5000));
  EXPECT_EQ(small, serial_sums(size, 3));
  const std::vector<float> sums = serial_sums(size, 8 * size);
  EXPECT_EQ(part, std::vector<float>(sums.begin() + 8 * rank, sums.begin() + 8 * rank + 8));
}

TEST_P(MpiCommunicatorTest, ScratchIsLabelledAndReturned) {
  std::vector<float> all(100 * size), mine(100);
  Pending pending = comm.initiate_reduce_scatter(flat(all), flat(mine));
  EXPECT_GE(arena.used(Label::exchange), 400 * (size - 1));
  pending.complete();
  EXPECT_EQ(arena.used(Label::exchange), 0);
}

TEST(MpiCommunicator, TagsStartAnew) {
  Arena arena(host_memory());
  MpiCommunicator comm(MpiHandle::duplicate(MPI_COMM_WORLD), arena);
  for (std::int32_t i = 0; i < 33'000; ++i) {
    std::vector<std::int32_t> value{comm.rank() == 0 ? i : -1};
    comm.broadcast(flat(value), 0);
    ASSERT_EQ(value[0], i);
  }
}

TEST(MpiCommunicator, DisagreeingRanksGetAnError) {
  Arena arena(host_memory());
  MpiCommunicator comm(MpiHandle::duplicate(MPI_COMM_WORLD), arena);
  if (comm.size() == 1) GTEST_SKIP() << "needs two ranks";
  std::vector<float> values(comm.rank() == 0 ? 2 : 3);
  if (comm.rank() == 0) comm.initiate_send(flat(values), 1).complete();
  if (comm.rank() == 1) {
    EXPECT_THROW(comm.initiate_receive(flat(values), 0).complete(), RunError);
  }
}

TEST(MpiCommunicator, AMessageTooLongIsAnError) {
  Arena arena(host_memory());
  MpiCommunicator comm(MpiHandle::duplicate(MPI_COMM_WORLD), arena);
  if (comm.size() == 1) GTEST_SKIP() << "needs two ranks";
  std::vector<float> values(comm.rank() == 0 ? 3 : 2);
  if (comm.rank() == 0) comm.initiate_send(flat(values), 1).complete();
  if (comm.rank() == 1) {
    EXPECT_THROW(comm.initiate_receive(flat(values), 0).complete(), RunError);
  }
}

}  // namespace
}  // namespace moesaic
