#include "moesaic/comm/staged_communicator.hpp"

#include "moesaic/tensor/transfer.hpp"

namespace moesaic {

Tensor StagedCommunicator::empty_like(ConstView device) const {
  return arena_->tensor(device.dtype(), device.extents(), Label::exchange);
}

Tensor StagedCommunicator::on_host(ConstView device) const {
  Tensor copy = empty_like(device);
  download(stream_, device, copy);
  return copy;
}

Pending StagedCommunicator::arriving(Pending pending, Tensor sent, Tensor received, View device) const {
  struct Passage {
    Pending pending;
    Tensor sent, received;
  };
  auto passage = std::make_shared<Passage>(Passage{std::move(pending), std::move(sent), std::move(received)});
  return Pending(
      [passage, device, stream = stream_] {
        passage->pending.complete();
        if (!device.absent()) upload(stream, passage->received, device);
        passage->sent.reset();
        passage->received.reset();
      },
      [passage] { return passage->pending.done(); });
}

Pending StagedCommunicator::initiate_all_gather(ConstView mine, View all) {
  Tensor sent = on_host(mine), received = empty_like(all);
  Pending pending = host_->initiate_all_gather(sent, received);
  return arriving(std::move(pending), std::move(sent), std::move(received), all);
}

Pending StagedCommunicator::initiate_reduce_scatter(ConstView all, View mine) {
  Tensor sent = on_host(all), received = empty_like(mine);
  Pending pending = host_->initiate_reduce_scatter(sent, received);
  return arriving(std::move(pending), std::move(sent), std::move(received), mine);
}

Pending StagedCommunicator::initiate_all_reduce(View values) {
  Tensor both = on_host(values);
  Pending pending = host_->initiate_all_reduce(both);
  return arriving(std::move(pending), {}, std::move(both), values);
}

Pending StagedCommunicator::initiate_all_to_all(ConstView send, std::span<const std::int64_t> send_rows, View receive,
                                                std::span<const std::int64_t> receive_rows) {
  Tensor sent = on_host(send), received = empty_like(receive);
  Pending pending = host_->initiate_all_to_all(sent, send_rows, received, receive_rows);
  return arriving(std::move(pending), std::move(sent), std::move(received), receive);
}

Pending StagedCommunicator::initiate_send(ConstView values, int to) {
  Tensor sent = on_host(values);
  Pending pending = host_->initiate_send(sent, to);
  return arriving(std::move(pending), std::move(sent), {}, {});
}

Pending StagedCommunicator::initiate_receive(View values, int from) {
  Tensor received = empty_like(values);
  Pending pending = host_->initiate_receive(received, from);
  return arriving(std::move(pending), {}, std::move(received), values);
}

Pending StagedCommunicator::initiate_broadcast(View values, int root) {
  Tensor both = on_host(values);
  Pending pending = host_->initiate_broadcast(both, root);
  return arriving(std::move(pending), {}, std::move(both), values);
}

}  // namespace moesaic
