#include "moesaic/comm/mpi_handle.hpp"

#include <fmt/format.h>

#include <string_view>

#include "moesaic/base/contract.hpp"

namespace moesaic {

void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw RunError(
      fmt::format("{}: {} (the ranks can no longer exchange data); look for the first error of any rank and "
                  "start again from the last checkpoint",
                  call, std::string_view(text, static_cast<std::size_t>(length))));
}

MpiHandle::MpiHandle(MPI_Comm comm) : comm_(comm) {
  check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
}

MpiHandle::~MpiHandle() {
  if (comm_ == MPI_COMM_NULL) return;
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (!finalized) MPI_Comm_free(&comm_);
}

MpiHandle MpiHandle::duplicate(MPI_Comm parent) {
  MPI_Comm comm = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(parent, &comm), "MPI_Comm_dup");
  return MpiHandle(comm);
}

MpiHandle MpiHandle::split(MPI_Comm parent, int colour) {
  MPI_Comm comm = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split(parent, colour, 0, &comm), "MPI_Comm_split");
  return MpiHandle(comm);
}

int MpiHandle::rank() const {
  int rank = 0;
  check_mpi(MPI_Comm_rank(comm_, &rank), "MPI_Comm_rank");
  return rank;
}

int MpiHandle::size() const {
  int size = 1;
  check_mpi(MPI_Comm_size(comm_, &size), "MPI_Comm_size");
  return size;
}

}  // namespace moesaic
