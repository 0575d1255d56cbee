// One job at a time in a folder. A second process: tests/train/faults_test.sh.
#include "moesaic/checkpoint/run_lock.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <optional>
#include <thread>

#include "io/temporary_folder.hpp"
#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

class Lock : public ::testing::Test {
 protected:
  Lock() { ::unsetenv("SLURM_JOB_ID"); }
  std::string refusal(RunLock::Timing timing = {}) const {
    return test::message_of<InputError>([&] { RunLock lock(folder.path(), timing); });
  }
  fs::path file() const { return folder / "lock"; }

  test::TemporaryFolder folder;
};

TEST_F(Lock, ASecondOneIsRefusedAndToldWhoHoldsIt) {
  std::optional<RunLock> lock(folder.path());
  const std::string message = refusal();
  EXPECT_NE(message.find("is in use by process " + std::to_string(::getpid()) + " on "), std::string::npos) << message;
  lock.reset();
  EXPECT_EQ(refusal(), "");
}

TEST_F(Lock, AnOrderlyEndLeavesAnEmptyFile) {
  { const RunLock lock(folder.path()); }
  EXPECT_TRUE(fs::exists(file()));
  EXPECT_EQ(fs::file_size(file()), 0u);
}

TEST_F(Lock, AHolderKilledOnThisHostIsGoneAtOnce) {
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  test::write_file(file(), std::string(host) + " 123 -\n");
  EXPECT_EQ(refusal({.stamp = milliseconds(1000), .patience = std::chrono::hours(1)}), "");
}

TEST_F(Lock, AHolderElsewhereWithoutASignOfLifeIsGone) {
  test::write_file(file(), "node99 123 4711\n");
  EXPECT_EQ(refusal({.stamp = milliseconds(4), .patience = milliseconds(20)}), "");
}

TEST_F(Lock, AHolderElsewhereThatGivesSignsOfLifeIsNamed) {
  test::write_file(file(), "node99 123 4711\n");
  std::atomic<bool> ended{false};
  std::thread other([&] {
    for (int seconds = 1; !ended; ++seconds) {
      fs::last_write_time(file(), fs::file_time_type::clock::now() + std::chrono::seconds(seconds));
      std::this_thread::yield();
    }
  });
  const std::string message = refusal({.stamp = milliseconds(4), .patience = std::chrono::hours(1)});
  ended = true;
  other.join();
  EXPECT_NE(message.find("in use by process 123 on node99, Slurm job 4711"), std::string::npos) << message;
}

TEST_F(Lock, ARequeuedJobKnowsItsOwnName) {
  ::setenv("SLURM_JOB_ID", "4711", 1);
  test::write_file(file(), "node99 123 4711\n");
  EXPECT_EQ(refusal({.stamp = milliseconds(1000), .patience = std::chrono::hours(1)}), "");
  ::unsetenv("SLURM_JOB_ID");
}

TEST_F(Lock, AFolderThatCannotBeWrittenIsAnInputError) {
  fs::create_directory(file());
  EXPECT_NE(refusal().find("lock cannot be written"), std::string::npos);
}

}  // namespace
}  // namespace moesaic
