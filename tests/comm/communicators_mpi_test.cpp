#include <gtest/gtest.h>

#include <vector>

#include "moesaic/base/contract.hpp"
#include "moesaic/comm/mpi_communicator.hpp"

namespace moesaic {
namespace {

struct CommunicatorsTest : ::testing::Test {
  Arena arena{host_memory()};
  int rank = 0, ranks = 1;

  CommunicatorsTest() {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  }

  /// The world ranks of a communicator's group, in its order.
  static std::vector<int> members(Communicator& communicator, int world_rank) {
    std::vector<std::int32_t> result(static_cast<std::size_t>(communicator.size()));
    const std::int32_t mine = world_rank;
    communicator.all_gather(host_view(&mine, {1}), host_view(result.data(), {communicator.size()}));
    return result;
  }

  void expect_groups(const GridRequest& request) {
    const ProcessGrid grid = ProcessGrid::make(request, ranks);
    SCOPED_TRACE(grid.describe());
    const Communicators comms = make_communicators(grid, MPI_COMM_WORLD, arena);
    EXPECT_EQ(comms.world->size(), ranks);
    EXPECT_EQ(comms.world->rank(), rank);
    EXPECT_EQ(members(*comms.context, rank), grid.group(rank, {Axis::context}));
    EXPECT_EQ(members(*comms.tokens, rank), grid.group(rank, {Axis::replicate, Axis::shard, Axis::context}));
    EXPECT_EQ(members(*comms.dense_shard, rank), grid.group(rank, {Axis::shard, Axis::context}));
    EXPECT_EQ(members(*comms.dense_replicate, rank), grid.group(rank, {Axis::replicate}));
    EXPECT_EQ(members(*comms.expert, rank), grid.group(rank, {Axis::expert}));
    EXPECT_EQ(members(*comms.expert_shard, rank), grid.group(rank, {Axis::expert_shard}));
    EXPECT_EQ(members(*comms.expert_replicate, rank), grid.group(rank, {Axis::expert_replicate}));
    EXPECT_EQ(comms.expert->rank(), grid.coordinate(rank, Axis::expert));
    EXPECT_EQ(comms.context->rank(), grid.coordinate(rank, Axis::context));
  }
};

TEST_F(CommunicatorsTest, FollowTheGridOnEveryFactorisation) {
  for (int pipeline = 1; pipeline <= ranks; ++pipeline) {
    for (int replicate = 1; pipeline * replicate <= ranks; ++replicate) {
      for (int context = 1; pipeline * replicate * context <= ranks; ++context) {
        if (ranks % (pipeline * replicate * context) != 0) continue;
        for (int expert = 1; expert <= ranks / pipeline; ++expert) {
          if (ranks / pipeline % expert != 0) continue;
          expect_groups({.pipeline = pipeline, .replicate = replicate, .context = context, .expert = expert});
        }
      }
    }
  }
}

TEST_F(CommunicatorsTest, TwoByTwo) {
  if (ranks != 4) GTEST_SKIP() << "a literal for 4 ranks";
  const auto grid = ProcessGrid::make({.replicate = 2, .expert = 2}, 4);
  const Communicators comms = make_communicators(grid, MPI_COMM_WORLD, arena);
  // Shard and expert are innermost: {0, 1} {2, 3}; replicate goes across: {0, 2} {1, 3}.
  const int even = rank - rank % 2;
  EXPECT_EQ(members(*comms.dense_shard, rank), (std::vector<int>{even, even + 1}));
  EXPECT_EQ(members(*comms.expert, rank), (std::vector<int>{even, even + 1}));
  EXPECT_EQ(members(*comms.dense_replicate, rank), (std::vector<int>{rank % 2, rank % 2 + 2}));
}

TEST_F(CommunicatorsTest, RefuseAGridOfAnotherSize) {
  const auto grid = ProcessGrid::make({}, ranks + 1);
  EXPECT_THROW(make_communicators(grid, MPI_COMM_WORLD, arena), InputError);
}

}  // namespace
}  // namespace moesaic
