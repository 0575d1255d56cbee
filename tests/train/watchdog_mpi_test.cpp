// Ranks: 2 3 4
#include "moesaic/train/watchdog.hpp"

#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "moesaic/comm/mpi_communicator.hpp"

namespace moesaic {
namespace {

constexpr Seconds an_hour{3600};

class WatchdogTest : public ::testing::Test {
 protected:
  Arena arena{host_memory()};
  MpiCommunicator world{MpiHandle::duplicate(MPI_COMM_WORLD), arena};
  int rank = world.rank();
  int size = world.size();
};

/// Holds until the condition does; CTest ends a test in which it never will.
template <class Condition> void wait_until(Condition&& condition) {
  while (!condition()) std::this_thread::yield();
}

TEST_F(WatchdogTest, RanksZeroAndOneKnowWhereAllRanksStand) {
  Watchdog watchdog(world, "host" + std::to_string(rank), an_hour);
  watchdog.progress(100 + rank, Phase::backward);
  if (rank < 2) {
    for (int r = 0; r < size; ++r) {
      wait_until([&] { return watchdog.board()[r].position.step == 100 + r; });
      const RankState state = watchdog.board()[r];
      EXPECT_EQ(state.position, (Position{100 + r, Phase::backward, 0}));
      EXPECT_EQ(state.condition, Condition::alive);
      EXPECT_EQ(state.host, "host" + std::to_string(r));
    }
  }
  world.barrier();
}

TEST_F(WatchdogTest, ChangesCountWithinTheStep) {
  Watchdog watchdog(world, "host", an_hour);
  watchdog.progress(1, Phase::forward);
  watchdog.progress(Phase::backward);
  watchdog.progress(1, Phase::forward);
  wait_until([&] { return watchdog.board()[rank].position == Position{1, Phase::forward, 2}; });
  watchdog.progress(2, Phase::forward);
  wait_until([&] { return watchdog.board()[rank].position == Position{2, Phase::forward, 0}; });
  world.barrier();
}

TEST_F(WatchdogTest, AFailureIsReportedByRankZeroAlone) {
  std::promise<Finding> found;
  std::promise<void> ended;
  {
    Watchdog watchdog(
        world, "host", an_hour, [&](const Finding& finding, const std::string&) { found.set_value(finding); },
        [&] { ended.set_value(); });
    watchdog.progress(7, Phase::optimizer);
    world.barrier();
    if (rank == size - 1) watchdog.failed();
    if (rank == 0) {
      EXPECT_EQ(found.get_future().get(), (Finding{Stall::failure, {size - 1}}));
      ended.get_future().get();
    }
    world.barrier();
  }
  if (rank > 0) {
    EXPECT_EQ(found.get_future().wait_for(Seconds(0)), std::future_status::timeout);
  }
}

TEST_F(WatchdogTest, AStallNamesTheRankBehind) {
  std::promise<Finding> found;
  Watchdog watchdog(
      world, "host", Seconds(5), [&](const Finding& finding, const std::string&) { found.set_value(finding); }, [] {});
  watchdog.progress(rank == 1 ? 6 : 7, Phase::forward);
  if (rank == 0) {
    EXPECT_EQ(found.get_future().get(), (Finding{Stall::lag, {1}}));
  }
  world.barrier();
}

}  // namespace
}  // namespace moesaic
