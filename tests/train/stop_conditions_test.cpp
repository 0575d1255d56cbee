#include "moesaic/train/stop_conditions.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <fstream>

#include "support/scratch_folder.hpp"

namespace moesaic {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using std::chrono::system_clock;

class StopConditionsTest : public ::testing::Test {
 protected:
  ScratchFolder scratch{"stop-conditions"};
  std::filesystem::path file = scratch.path() / "stop";
  void ask() const { std::ofstream(file) << '\n'; }
};

TEST_F(StopConditionsTest, NothingStopsARunThatNobodyAsked) {
  EXPECT_EQ(StopConditions(scratch.path(), true, 0, std::nullopt).reason(1e9), StopReason::none);
}

TEST_F(StopConditionsTest, ASignalIsNoted) {
  const StopConditions stop(scratch.path(), false, 0, std::nullopt);
  std::raise(SIGUSR1);
  EXPECT_EQ(stop.reason(0), StopReason::signal);
}

TEST_F(StopConditionsTest, ASignalBeforeTheRunBeginsIsNotedToo) {
  const StopRequest program;
  std::raise(SIGTERM);
  {
    const StopConditions run(scratch.path(), false, 0, std::nullopt);
    EXPECT_EQ(run.reason(0), StopReason::signal);
  }
  EXPECT_EQ(program.signal(), SIGTERM);  // and behind it the program still listens
  EXPECT_EQ(StopConditions(scratch.path(), false, 0, std::nullopt).reason(0), StopReason::signal);
}

TEST_F(StopConditionsTest, TheFileIsSeenByOneRankAndRemovedWhenObeyed) {
  ask();
  EXPECT_EQ(StopConditions(scratch.path(), false, 0, std::nullopt).reason(0), StopReason::none);
  const StopConditions stop(scratch.path(), true, 0, std::nullopt);
  EXPECT_EQ(stop.reason(0), StopReason::stop_file);
  stop.obeyed();
  EXPECT_FALSE(std::filesystem::exists(file));
  EXPECT_EQ(stop.reason(0), StopReason::none);
}

TEST_F(StopConditionsTest, AnAllocationThatEndsBeforeTheStepWouldEndsTheRun) {
  const auto end = system_clock::now() + hours(1);
  const StopConditions stop(scratch.path(), true, 0, end);
  EXPECT_EQ(stop.reason(3000), StopReason::none);
  EXPECT_EQ(stop.reason(3700), StopReason::end_of_allocation);
  EXPECT_EQ(StopConditions(scratch.path(), false, 0, end).reason(3700), StopReason::none);  // another rank's to say
}

TEST_F(StopConditionsTest, TheWallLimitCountsFromTheStart) {
  EXPECT_EQ(StopConditions(scratch.path(), true, 1e-9, std::nullopt).reason(0), StopReason::wall_limit);
  EXPECT_EQ(StopConditions(scratch.path(), true, 1e9, std::nullopt).reason(0), StopReason::none);
  EXPECT_EQ(StopConditions(scratch.path(), false, 1e-9, std::nullopt).reason(0), StopReason::none);
}

TEST(AllocationEnd, IsWhatSlurmSays) {
  setenv("SLURM_JOB_END_TIME", "1700000000", 1);
  EXPECT_EQ(allocation_end(), system_clock::time_point(seconds(1700000000)));
  for (const char* none : {"", "soon", "12x", "0"}) {
    setenv("SLURM_JOB_END_TIME", none, 1);
    EXPECT_FALSE(allocation_end()) << none;
  }
  unsetenv("SLURM_JOB_END_TIME");
  EXPECT_FALSE(allocation_end());
}

}  // namespace
}  // namespace moesaic
