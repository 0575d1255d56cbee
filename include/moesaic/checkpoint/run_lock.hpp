#pragma once
/// One job at a time in a run directory.

#include <chrono>
#include <filesystem>
#include <memory>

namespace moesaic {

/// Holds `run_directory`/lock from its making to its end, for rank 0 alone. Two things keep a second job out:
///
/// - A lock of the file (fcntl), which the kernel takes back when the process ends, however it ends. It works across hosts
///   wherever the file system passes locks on (NFS 4, GPFS, Lustre with flock).
/// - A sign of life: the file says which host, process and Slurm job hold it, and a thread stamps it every few seconds.
///   Where locks stay within a host, or are not supported, a second job watches the stamp before it takes over. Only the
///   file of a job that was killed elsewhere costs that patience: an orderly end empties the file, and a requeued Slurm
///   job knows its own name.
///
/// The file itself stays: removing it would let two jobs hold two files of one name.
class RunLock {
 public:
  struct Timing {
    std::chrono::milliseconds stamp{2000};      ///< between signs of life
    std::chrono::milliseconds patience{12000};  ///< without one the holder counts as dead
  };

  /// InputError that names the holder when another job is at work there; also when the file cannot be made.
  explicit RunLock(const std::filesystem::path& run_directory) : RunLock(run_directory, Timing()) {}
  RunLock(const std::filesystem::path& run_directory, Timing timing);
  RunLock(const RunLock&) = delete;
  ~RunLock();

 private:
  class Holder;
  std::unique_ptr<Holder> holder_;
};

}  // namespace moesaic
