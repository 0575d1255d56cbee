#pragma once
/// Exchange of device memory through host memory.

#include <memory>

#include "moesaic/comm/communicator.hpp"
#include "moesaic/tensor/arena.hpp"
#include "moesaic/tensor/stream.hpp"

namespace moesaic {

/// initiate: waits for the stream, copies to the host and starts the host's collective; complete: ends that and copies the
/// result to the device, ordered by the stream. Results are those of the host's communicator, bit for bit.
class StagedCommunicator final : public Communicator {
 public:
  /// `host` and `arena` (host memory, scratch of Label::exchange) must outlive this and every Pending of it.
  StagedCommunicator(Communicator& host, Arena& arena, Stream stream) : host_(&host), arena_(&arena), stream_(stream) {}

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }

  Pending initiate_all_gather(ConstView mine, View all) override;
  Pending initiate_reduce_scatter(ConstView all, View mine) override;
  Pending initiate_all_reduce(View values) override;
  Pending initiate_all_to_all(ConstView send, std::span<const std::int64_t> send_rows, View receive,
                              std::span<const std::int64_t> receive_rows) override;
  Pending initiate_send(ConstView values, int to) override;
  Pending initiate_receive(View values, int from) override;
  Pending initiate_broadcast(View values, int root) override;
  void barrier() override { host_->barrier(); }

 private:
  Tensor empty_like(ConstView device) const;
  Tensor on_host(ConstView device) const;
  /// Ends `pending`, then copies `received` to `device` (absent: nothing). `sent` lives as long.
  Pending arriving(Pending pending, Tensor sent, Tensor received, View device) const;

  Communicator* host_;
  Arena* arena_;
  Stream stream_;
};

}  // namespace moesaic
