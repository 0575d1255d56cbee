#pragma once
/// An owned MPI communicator, and MPI's return codes as errors.

#include <mpi.h>

#include <utility>

namespace moesaic {

/// Throws RunError "<call>: <what MPI says> (...); ..." unless `code` is MPI_SUCCESS.
void check_mpi(int code, const char* call);

/// Movable owner of an MPI_Comm: freed on destruction; errors come back as codes.
class MpiHandle {
 public:
  MpiHandle() = default;
  MpiHandle(MpiHandle&& other) noexcept : comm_(std::exchange(other.comm_, MPI_COMM_NULL)) {}
  MpiHandle& operator=(MpiHandle&& other) noexcept {
    std::swap(comm_, other.comm_);
    return *this;
  }
  ~MpiHandle();

  /// The same group with message space of its own. Collective over `parent`.
  static MpiHandle duplicate(MPI_Comm parent);
  /// One communicator for all ranks of `parent` with the same `colour`, in the parent's order. Collective over
  /// `parent`.
  static MpiHandle split(MPI_Comm parent, int colour);

  MPI_Comm get() const { return comm_; }
  int rank() const;
  int size() const;

 private:
  explicit MpiHandle(MPI_Comm comm);

  MPI_Comm comm_ = MPI_COMM_NULL;
};

}  // namespace moesaic
