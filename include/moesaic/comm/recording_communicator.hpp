#pragma once
/// A communicator that writes down what is asked of it.

#include <memory>
#include <string>

#include "moesaic/comm/communicator.hpp"
#include "moesaic/comm/recording.hpp"

namespace moesaic {

/// Passes everything on to another communicator and appends to a recording, which several communicators may share; it
/// must outlive this and every Pending of it. Wrap a MirrorCommunicator to see on one rank what a larger group would
/// do. Bytes are those that leave or reach this rank, with nothing for what it keeps.
class RecordingCommunicator final : public Communicator {
 public:
  /// `channel` names this communicator in the recording.
  RecordingCommunicator(std::unique_ptr<Communicator> wrapped, std::string channel, Recording& recording)
      : wrapped_(std::move(wrapped)), channel_(std::move(channel)), recording_(recording) {}

  int rank() const override { return wrapped_->rank(); }
  int size() const override { return wrapped_->size(); }
  Communicator& wrapped() { return *wrapped_; }

  Pending initiate_all_gather(ConstView mine, View all) override;
  Pending initiate_reduce_scatter(ConstView all, View mine) override;
  Pending initiate_all_reduce(View values) override;
  Pending initiate_all_to_all(ConstView send, std::span<const std::int64_t> send_rows, View receive,
                              std::span<const std::int64_t> receive_rows) override;
  Pending initiate_send(ConstView values, int to) override;
  Pending initiate_receive(View values, int from) override;
  Pending initiate_broadcast(View values, int root) override;
  void barrier() override;
  void start_group() override { wrapped_->start_group(); }
  void end_group() override { wrapped_->end_group(); }

 private:
  /// Records the initiation, then starts it; its completion is recorded once the wrapped one has completed.
  template <class Initiate>
  Pending record(const char* name, std::int64_t sent, std::int64_t received, Initiate&& initiate);

  std::unique_ptr<Communicator> wrapped_;
  std::string channel_;
  Recording& recording_;
};

}  // namespace moesaic
