#pragma once
/// One rank that stands for a whole group, for tests of what a rank does in a group of any size.

#include <cstddef>
#include <deque>
#include <memory>
#include <vector>

#include "moesaic/comm/communicator.hpp"

namespace moesaic {

/// A pretended group of `size` ranks on host memory in which every other rank mirrors this one, rank 0: it holds the
/// same values, sends the same and, in an all-to-all, sends to this rank what this rank keeps for itself. Rows and
/// messages that a mirrored rank would not have are zeros. Operations take effect when completed.
class MirrorCommunicator final : public Communicator {
 public:
  explicit MirrorCommunicator(int size) : size_(size) {}

  int rank() const override { return 0; }
  int size() const override { return size_; }

  /// Copies of `mine`, one after another.
  Pending initiate_all_gather(ConstView mine, View all) override;
  /// The first block of `all`, added up `size` times.
  Pending initiate_reduce_scatter(ConstView all, View mine) override;
  Pending initiate_all_reduce(View values) override;
  /// From each rank the rows that `send` holds for rank 0, as many as it expects; the rest is zero.
  Pending initiate_all_to_all(ConstView send, std::span<const std::int64_t> send_rows, View receive,
                              std::span<const std::int64_t> receive_rows) override;
  /// The values come back to this rank's next receive.
  Pending initiate_send(ConstView values, int to) override;
  Pending initiate_receive(View values, int from) override;
  Pending initiate_broadcast(View values, int root) override;
  void barrier() override {}

 private:
  using Message = std::vector<std::byte>;

  int size_;
  std::shared_ptr<std::deque<Message>> messages_ = std::make_shared<std::deque<Message>>();  ///< sent, not yet received
};

}  // namespace moesaic
