// On the CPU's stream a staged communicator copies from host to host: what it does is the same.
#include "moesaic/comm/staged_communicator.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "moesaic/comm/mpi_communicator.hpp"

namespace moesaic {
namespace {

template <class T> View flat(std::vector<T>& values) {
  return host_view(values.data(), {static_cast<std::int64_t>(values.size())});
}

class StagedCommunicatorTest : public ::testing::Test {
 protected:
  Arena arena{host_memory()};
  MpiCommunicator host{MpiHandle::duplicate(MPI_COMM_WORLD), arena};
  StagedCommunicator staged{host, arena, host_stream};
  int rank = host.rank(), size = host.size();

  ~StagedCommunicatorTest() override { EXPECT_EQ(arena.used(), 0) << "staging memory was not given back"; }

  /// rank + 0.25 i.
  std::vector<float> values(std::int64_t count) const {
    std::vector<float> result;
    for (std::int64_t i = 0; i < count; ++i) result.push_back(static_cast<float>(rank) + 0.25f * static_cast<float>(i));
    return result;
  }
  static std::vector<float> poisoned(std::int64_t count) {
    return std::vector<float>(static_cast<std::size_t>(count), -1);
  }
};

TEST_F(StagedCommunicatorTest, CollectivesAreThoseOfTheHost) {
  std::vector<float> mine = values(5), all = poisoned(5 * size), expected = poisoned(5 * size);
  staged.all_gather(flat(mine), flat(all));
  host.all_gather(flat(mine), flat(expected));
  EXPECT_EQ(all, expected);

  std::vector<float> slice = poisoned(5), expected_slice = poisoned(5);
  staged.reduce_scatter(flat(all), flat(slice));
  host.reduce_scatter(flat(all), flat(expected_slice));
  EXPECT_EQ(slice, expected_slice);

  std::vector<float> sums = values(7), expected_sums = values(7);
  staged.all_reduce(flat(sums));
  host.all_reduce(flat(expected_sums));
  EXPECT_EQ(sums, expected_sums);
  EXPECT_EQ(sums[4], static_cast<float>(size * (size - 1) / 2 + size)) << "sum over ranks of rank + 1";

  std::vector<float> told = values(3);
  staged.broadcast(flat(told), size - 1);
  EXPECT_EQ(told[0], static_cast<float>(size - 1));
}

TEST_F(StagedCommunicatorTest, RowsGoToTheirRanks) {
  // Rank s sends r + 1 rows to rank r, each holding 100 s + r.
  std::vector<float> sent, received, expected;
  std::vector<std::int64_t> leaving, arriving;
  for (int r = 0; r < size; ++r) {
    leaving.push_back(r + 1);
    arriving.push_back(rank + 1);
    sent.insert(sent.end(), static_cast<std::size_t>(r + 1), static_cast<float>(100 * rank + r));
    expected.insert(expected.end(), static_cast<std::size_t>(rank + 1), static_cast<float>(100 * r + rank));
  }
  received = poisoned(std::ssize(expected));
  staged.all_to_all(flat(sent), leaving, flat(received), arriving);
  EXPECT_EQ(received, expected);
}

TEST_F(StagedCommunicatorTest, NeighboursExchangeWithoutWaitingForEachOther) {
  std::vector<float> sent{static_cast<float>(rank)}, received{-1};
  Pending sending = staged.initiate_send(flat(sent), (rank + 1) % size);
  Pending receiving = staged.initiate_receive(flat(received), (rank + size - 1) % size);
  sent[0] = -7;  // it was copied
  receiving.complete();
  sending.complete();
  EXPECT_EQ(received[0], static_cast<float>((rank + size - 1) % size));
}

}  // namespace
}  // namespace moesaic
