#pragma once
/// Exchange of device memory between ranks of one host that share devices. Compiled with MOESAIC_CUDA only.

#include <memory>

#include "moesaic/comm/communicator.hpp"
#include "moesaic/comm/ipc_memory.hpp"

namespace moesaic {

/// initiate: lends the others a copy, waits until it is there, and tells them where through the host's communicator;
/// complete: waits for their addresses; the stream then reads their memory. Sums are taken on the device in rank order: the
/// bits of the host's communicator.
class IpcCommunicator final : public Communicator {
 public:
  /// `host`: the same group over host memory, which must outlive this and every Pending of it. Its ranks are among those of
  /// `memory`, whose stream this works on.
  IpcCommunicator(Communicator& host, std::shared_ptr<IpcMemory> memory, Stream stream)
      : host_(&host), memory_(std::move(memory)), stream_(stream) {}

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
  struct Letters;
  /// Lends `values` to the whole group and starts to tell it; read(letters) follows when all addresses are there.
  template <class Read> Pending share(ConstView values, Read&& read);

  Communicator* host_;
  std::shared_ptr<IpcMemory> memory_;
  Stream stream_;
};

}  // namespace moesaic
