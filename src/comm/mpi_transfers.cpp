#include "moesaic/comm/mpi_transfers.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "moesaic/base/contract.hpp"
#include "moesaic/comm/mpi_handle.hpp"
#include "moesaic/tensor/timeline.hpp"

namespace moesaic {

namespace {

/// Throws when `status` tells of an error or of fewer bytes than `expected`.
void check_received(MPI_Status& status, int expected) {
  int received = 0;
  check_mpi(MPI_Get_count(&status, MPI_BYTE, &received), "MPI_Get_count");
  if (received == expected) return;
  throw RunError(
      fmt::format("rank {} of the group sent {} bytes where {} were expected (the ranks disagree about what they "
                  "exchange); check that all ranks run the same program with the same deck",
                  status.MPI_SOURCE, received, expected));
}

}  // namespace

MpiTransfers::MpiTransfers(MPI_Comm comm, int tag, std::int64_t max_message_bytes)
    : comm_(comm), tag_(tag), max_message_bytes_(max_message_bytes) {
  MOESAIC_EXPECT(0 < max_message_bytes && max_message_bytes <= std::numeric_limits<int>::max());
}

MpiTransfers::~MpiTransfers() {
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] == MPI_REQUEST_NULL) continue;
    if (expected_bytes_[i] >= 0) MPI_Cancel(&requests_[i]);
    MPI_Request_free(&requests_[i]);
  }
}

template <class Post> void MpiTransfers::for_each_message(std::int64_t bytes, Post&& post) {
  for (std::int64_t offset = 0; offset < bytes; offset += max_message_bytes_) {
    post(offset, static_cast<int>(std::min(max_message_bytes_, bytes - offset)));
  }
}

void MpiTransfers::send(const void* data, std::int64_t bytes, int to) {
  for_each_message(bytes, [&](std::int64_t offset, int length) {
    MPI_Request request = MPI_REQUEST_NULL;
    check_mpi(MPI_Isend(static_cast<const char*>(data) + offset, length, MPI_BYTE, to, tag_, comm_, &request),
              "MPI_Isend");
    requests_.push_back(request);
    expected_bytes_.push_back(-1);
  });
}

void MpiTransfers::receive(void* data, std::int64_t bytes, int from) {
  for_each_message(bytes, [&](std::int64_t offset, int length) {
    MPI_Request request = MPI_REQUEST_NULL;
    check_mpi(MPI_Irecv(static_cast<char*>(data) + offset, length, MPI_BYTE, from, tag_, comm_, &request), "MPI_Irecv");
    requests_.push_back(request);
    expected_bytes_.push_back(length);
  });
}

bool MpiTransfers::done() {
  return std::all_of(requests_.begin(), requests_.end(), [](MPI_Request request) {
    int flag = 0;
    check_mpi(MPI_Request_get_status(request, &flag, MPI_STATUS_IGNORE), "MPI_Request_get_status");
    return flag != 0;
  });
}

void MpiTransfers::wait() {
  if (requests_.empty()) return;
  const TimedSpan span(SpanKind::wait, host_stream, [] { return SpanText{"wait for other ranks"}; });
  // One after the other: all of them progress in each call, and Open MPI 4.1.4's MPI_Waitall may spin for ever when a
  // request has failed.
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    MPI_Status status;
    check_mpi(MPI_Wait(&requests_[i], &status), "MPI_Wait");
    if (expected_bytes_[i] >= 0) check_received(status, expected_bytes_[i]);
  }
  requests_.clear();
  expected_bytes_.clear();
}

}  // namespace moesaic
