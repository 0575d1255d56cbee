#include "moesaic/comm/mpi_session.hpp"

#include <gtest/gtest.h>
#include <mpi.h>

#include <cstdlib>
#include <optional>
#include <string>

namespace moesaic {
namespace {

/// Sets or unsets an environment variable, and puts it back.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    set(value);
  }
  ~ScopedVariable() { set(old_ ? old_->c_str() : nullptr); }

 private:
  void set(const char* value) const { value ? setenv(name_, value, 1) : unsetenv(name_); }
  const char* name_;
  std::optional<std::string> old_;
};

TEST(MpiSession, LeavesMpiToWhoStartedIt) {
  int rank = 0, size = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  {
    const MpiSession session;
    EXPECT_EQ(session.rank(), rank);
    EXPECT_EQ(session.size(), size);
    // CTest runs on one host.
    EXPECT_EQ(session.local_rank(), rank);
    EXPECT_EQ(session.local_size(), size);
    EXPECT_FALSE(session.host().empty());
  }
  int finalized = 1;
  MPI_Finalized(&finalized);
  EXPECT_FALSE(finalized);
}

TEST(MpiSession, ReadsSlurmsTaskLists) {
  EXPECT_EQ(largest_task_count("8"), 8);
  EXPECT_EQ(largest_task_count("4(x2),3"), 4);
  EXPECT_EQ(largest_task_count("1,12(x3)"), 12);
  EXPECT_EQ(largest_task_count(""), 1);
}

TEST(MpiSession, TakesTheLaunchersWordForLocalRanks) {
  const ScopedVariable slurm("SLURM_STEP_TASKS_PER_NODE", "6(x2)");
  const ScopedVariable mpirun("OMPI_COMM_WORLD_LOCAL_SIZE", "3");
  EXPECT_EQ(launched_local_ranks(), 3);
  const ScopedVariable no_mpirun("OMPI_COMM_WORLD_LOCAL_SIZE", nullptr);
  EXPECT_EQ(launched_local_ranks(), 6);
  const ScopedVariable no_slurm("SLURM_STEP_TASKS_PER_NODE", nullptr);
  EXPECT_EQ(launched_local_ranks(), 1);
}

TEST(MpiSession, RanksYieldOnlyWhereCoresAreFull) {
  const ScopedVariable yield("OMPI_MCA_mpi_yield_when_idle", nullptr), locks("OMPI_MCA_fs_ufs_lock_algorithm", nullptr),
      nccl("NCCL_RUNTIME_CONNECT", nullptr);
  prepare_mpi_environment(3, 4);
  EXPECT_EQ(std::getenv("OMPI_MCA_mpi_yield_when_idle"), nullptr);
  EXPECT_STREQ(std::getenv("OMPI_MCA_fs_ufs_lock_algorithm"), "3");
  EXPECT_STREQ(std::getenv("NCCL_RUNTIME_CONNECT"), "0");
  prepare_mpi_environment(1, 1);
  EXPECT_EQ(std::getenv("OMPI_MCA_mpi_yield_when_idle"), nullptr);
  prepare_mpi_environment(4, 4);
  EXPECT_STREQ(std::getenv("OMPI_MCA_mpi_yield_when_idle"), "1");
}

TEST(MpiSession, KeepsWhatTheUserSet) {
  const ScopedVariable yield("OMPI_MCA_mpi_yield_when_idle", "0"), locks("OMPI_MCA_fs_ufs_lock_algorithm", "1");
  prepare_mpi_environment(8, 2);
  EXPECT_STREQ(std::getenv("OMPI_MCA_mpi_yield_when_idle"), "0");
  EXPECT_STREQ(std::getenv("OMPI_MCA_fs_ufs_lock_algorithm"), "1");
}

}  // namespace
}  // namespace moesaic
