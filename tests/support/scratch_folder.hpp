#pragma once
/// A folder for a test's files, the same on all ranks; emptied at the beginning, removed at the end.

#include <mpi.h>

#include <unistd.h>

#include <filesystem>
#include <string>

namespace moesaic {

/// Collective over MPI_COMM_WORLD.
class ScratchFolder {
 public:
  explicit ScratchFolder(const std::string& name) {
    int process = static_cast<int>(::getpid());
    MPI_Bcast(&process, 1, MPI_INT, 0, MPI_COMM_WORLD);
    path_ = std::filesystem::temp_directory_path() / ("moesaic-" + name + "-" + std::to_string(process));
    if (first()) {
      std::filesystem::remove_all(path_);
      std::filesystem::create_directories(path_);
    }
    MPI_Barrier(MPI_COMM_WORLD);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ~ScratchFolder() {
    MPI_Barrier(MPI_COMM_WORLD);
    if (first()) std::filesystem::remove_all(path_);
  }
  const std::filesystem::path& path() const { return path_; }
  static bool first() {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank == 0;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace moesaic
