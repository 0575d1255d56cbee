#pragma once
/// A group of one rank: nobody to exchange with.

#include "moesaic/comm/communicator.hpp"
#include "moesaic/tensor/stream.hpp"

namespace moesaic {

/// What a collective gives one rank alone: copies, on the stream of its memory, which are ordered and done as its other work
/// is. There is nobody to send to or to receive from.
class SoloCommunicator final : public Communicator {
 public:
  explicit SoloCommunicator(Stream stream) : stream_(stream) {}

  int rank() const override { return 0; }
  int size() const override { return 1; }

  Pending initiate_all_gather(ConstView mine, View all) override { return copied(mine, all); }
  Pending initiate_reduce_scatter(ConstView all, View mine) override { return copied(all, mine); }
  Pending initiate_all_reduce(View) override { return {}; }
  Pending initiate_all_to_all(ConstView send, std::span<const std::int64_t> send_rows, View receive,
                              std::span<const std::int64_t> receive_rows) override;
  Pending initiate_send(ConstView, int) override { return nobody(); }
  Pending initiate_receive(View, int) override { return nobody(); }
  Pending initiate_broadcast(View, int) override { return {}; }
  void barrier() override {}

 private:
  Pending copied(ConstView from, View to) const;
  Pending nobody() const;

  Stream stream_;
};

}  // namespace moesaic
