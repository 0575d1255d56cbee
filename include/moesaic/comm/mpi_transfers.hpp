#pragma once
/// The one primitive under every host collective: a set of sends and receives, cut into messages of bounded length.

#include <mpi.h>

#include <cstdint>
#include <vector>

namespace moesaic {

/// Sends and receives under way together, between any ranks of one communicator. Both sides cut at the same length, and
/// MPI keeps messages of one pair and tag in order, so pieces meet their places. Destroyed before wait() (an error is
/// on its way up), it cancels what it can and waits for nothing.
class MpiTransfers {
 public:
  /// `max_message_bytes` in [1, 2^31): the same on all ranks.
  MpiTransfers(MPI_Comm comm, int tag, std::int64_t max_message_bytes);
  MpiTransfers(const MpiTransfers&) = delete;
  MpiTransfers& operator=(const MpiTransfers&) = delete;
  ~MpiTransfers();

  /// Start to send or receive `bytes`, which may be zero or beyond 2^31; the memory must stay until wait() returns.
  void send(const void* data, std::int64_t bytes, int to);
  void receive(void* data, std::int64_t bytes, int from);

  /// Whether wait() would return at once.
  bool done();

  /// Returns when all of them are done. Throws RunError when one failed or brought less than was asked for.
  void wait();

 private:
  /// Calls post(offset, length) for each message of `bytes`.
  template <class Post> void for_each_message(std::int64_t bytes, Post&& post);

  MPI_Comm comm_;
  int tag_;
  std::int64_t max_message_bytes_;
  std::vector<MPI_Request> requests_;
  std::vector<int> expected_bytes_;  ///< of each request; -1 for sends
};

}  // namespace moesaic
