#pragma once
/// One group of ranks with two ways to exchange: by where the memory is.

#include <memory>

#include "moesaic/comm/communicator.hpp"

namespace moesaic {

/// Views of host memory go to `host`, others to `device`. Both must be of the same ranks in the same order.
class RoutedCommunicator final : public Communicator {
 public:
  RoutedCommunicator(std::unique_ptr<Communicator> host, std::unique_ptr<Communicator> device)
      : host_(std::move(host)), device_(std::move(device)) {}

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }

  Pending initiate_all_gather(ConstView mine, View all) override { return of(all).initiate_all_gather(mine, all); }
  Pending initiate_reduce_scatter(ConstView all, View mine) override {
    return of(mine).initiate_reduce_scatter(all, mine);
  }
  Pending initiate_all_reduce(View values) override { return of(values).initiate_all_reduce(values); }
  Pending initiate_all_to_all(ConstView send, std::span<const std::int64_t> send_rows, View receive,
                              std::span<const std::int64_t> receive_rows) override {
    return of(receive).initiate_all_to_all(send, send_rows, receive, receive_rows);
  }
  Pending initiate_send(ConstView values, int to) override { return of(values).initiate_send(values, to); }
  Pending initiate_receive(View values, int from) override { return of(values).initiate_receive(values, from); }
  Pending initiate_broadcast(View values, int root) override { return of(values).initiate_broadcast(values, root); }
  void barrier() override { host_->barrier(); }
  void start_group() override { device_->start_group(); }
  void end_group() override { device_->end_group(); }

 private:
  Communicator& of(const ConstView& view) const { return view.device() == DeviceKind::cpu ? *host_ : *device_; }

  std::unique_ptr<Communicator> host_;
  std::unique_ptr<Communicator> device_;
};

}  // namespace moesaic
