#include "moesaic/comm/mpi_session.hpp"

#include <mpi.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "moesaic/base/contract.hpp"
#include "moesaic/comm/mpi_handle.hpp"

namespace moesaic {

namespace {

/// Cores that this process may run on.
int usable_cores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  return sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
}

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "unknown host";
}

void initialise() {
  prepare_mpi_environment(launched_local_ranks(), usable_cores());
  int granted = MPI_THREAD_SINGLE;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &granted), "MPI_Init_thread");
  if (granted < MPI_THREAD_MULTIPLE) {
    throw RunError(
        "this MPI grants no MPI_THREAD_MULTIPLE (checkpoints are written by a thread of their own); use an MPI "
        "built with thread support");
  }
}

}  // namespace

int largest_task_count(const std::string& tasks_per_node) {
  int largest = 1;
  for (std::size_t begin = 0; begin < tasks_per_node.size();) {
    largest = std::max(largest, std::atoi(tasks_per_node.c_str() + begin));
    const std::size_t comma = tasks_per_node.find(',', begin);
    begin = comma == std::string::npos ? tasks_per_node.size() : comma + 1;
  }
  return largest;
}

int launched_local_ranks() {
  if (const char* ranks = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE")) return std::max(1, std::atoi(ranks));
  const char* tasks = std::getenv("SLURM_STEP_TASKS_PER_NODE");
  return tasks ? largest_task_count(tasks) : 1;
}

void prepare_mpi_environment(int local_ranks, int usable_cores) {
  constexpr int keep_what_is_set = 0;
  if (local_ranks > 1 && local_ranks >= usable_cores) setenv("OMPI_MCA_mpi_yield_when_idle", "1", keep_what_is_set);
  // Locks of whole files: with finer ones 4.1.4's data sieving may lose writes (open-mpi/ompi #10546, #12718).
  setenv("OMPI_MCA_fs_ufs_lock_algorithm", "3", keep_what_is_set);
  // NCCL makes all connections of a communicator with it, not later when its GPU may be waiting for another rank.
  setenv("NCCL_RUNTIME_CONNECT", "0", keep_what_is_set);
}

MpiSession::MpiSession() : exceptions_at_start_(std::uncaught_exceptions()), host_(host_name()) {
  int initialised = 0;
  check_mpi(MPI_Initialized(&initialised), "MPI_Initialized");
  if (!initialised) initialise();
  owns_mpi_ = !initialised;
  const MpiHandle world = MpiHandle::duplicate(MPI_COMM_WORLD);
  rank_ = world.rank();
  size_ = world.size();
  MPI_Comm host_comm = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(world.get(), MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host_comm),
            "MPI_Comm_split_type");
  MPI_Comm_rank(host_comm, &local_rank_);
  MPI_Comm_size(host_comm, &local_size_);
  MPI_Comm_free(&host_comm);
}

MpiSession::~MpiSession() {
  if (owns_mpi_ && std::uncaught_exceptions() == exceptions_at_start_) MPI_Finalize();
}

void MpiSession::abort(int status) const {
  std::fflush(nullptr);
  MPI_Abort(MPI_COMM_WORLD, status);
  std::_Exit(status);
}

}  // namespace moesaic
