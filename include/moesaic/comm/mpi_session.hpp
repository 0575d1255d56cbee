#pragma once
/// MPI from beginning to end of the program.

#include <string>

namespace moesaic {

/// Initialises MPI with MPI_THREAD_MULTIPLE and finalises it on destruction; where MPI is already initialised, it is
/// left to its owner. Works without mpirun (one rank). Make one, in main, before threads start: the environment may
/// be set.
///
/// Destroyed by an exception, it does not finalise (the other ranks may never come to it): call abort() or let the
/// process end with a status other than 0, upon which the launcher ends the job.
class MpiSession {
 public:
  /// Throws RunError when MPI does not start or grants no MPI_THREAD_MULTIPLE.
  MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;
  ~MpiSession();

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// Rank and number of ranks within this host.
  int local_rank() const { return local_rank_; }
  int local_size() const { return local_size_; }
  const std::string& host() const { return host_; }

  /// Ends all ranks now with `status`.
  [[noreturn]] void abort(int status) const;

 private:
  bool owns_mpi_ = false;
  int exceptions_at_start_ = 0;
  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1;
  std::string host_;
};

/// Ranks that the launcher (Open MPI's mpirun, else Slurm's srun) put on this host, from the environment; 1 without
/// one.
int launched_local_ranks();

/// The largest count in Slurm's list of tasks a node. Example: "4(x2),3" gives 4; 1 for what is no such list.
int largest_task_count(const std::string& tasks_per_node);

/// Sets Open MPI's parameters that suit this program, where neither user nor launcher has set them: idle ranks yield
/// when `local_ranks` is at least `usable_cores`, and the file locks work around faults of Open MPI 4.1.4. Of NCCL's, one
/// that keeps ranks from waiting for each other. Before MPI starts.
void prepare_mpi_environment(int local_ranks, int usable_cores);

}  // namespace moesaic
