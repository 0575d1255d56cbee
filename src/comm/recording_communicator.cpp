#include "moesaic/comm/recording_communicator.hpp"

#include "moesaic/comm/row_ranges.hpp"

namespace moesaic {

template <class Initiate>
Pending RecordingCommunicator::record(const char* name, std::int64_t sent, std::int64_t received, Initiate&& initiate) {
  const std::int64_t operation = recording_.initiate(channel_, name, sent, received);
  auto inner = std::make_shared<Pending>(initiate());
  const auto complete = [inner, operation, &recording = recording_] {
    inner->complete();
    recording.complete(operation);
  };
  return Pending(complete, [inner] { return inner->done(); });
}

Pending RecordingCommunicator::initiate_all_gather(ConstView mine, View all) {
  const std::int64_t others = (size() - 1) * mine.bytes();
  return record("all_gather", others, others, [&] { return wrapped_->initiate_all_gather(mine, all); });
}

Pending RecordingCommunicator::initiate_reduce_scatter(ConstView all, View mine) {
  const std::int64_t others = (size() - 1) * mine.bytes();
  return record("reduce_scatter", others, others, [&] { return wrapped_->initiate_reduce_scatter(all, mine); });
}

Pending RecordingCommunicator::initiate_all_reduce(View values) {
  // Scatter the parts, gather the sums.
  const std::int64_t others = 2 * (size() - 1) * values.bytes() / size();
  return record("all_reduce", others, others, [&] { return wrapped_->initiate_all_reduce(values); });
}

Pending RecordingCommunicator::initiate_all_to_all(ConstView send, std::span<const std::int64_t> send_rows,
                                                   View receive, std::span<const std::int64_t> receive_rows) {
  const RowRanges sent(send, send_rows), received(receive, receive_rows);
  return record("all_to_all", sent.offset(size()) - sent.bytes(rank()),
                received.offset(size()) - received.bytes(rank()),
                [&] { return wrapped_->initiate_all_to_all(send, send_rows, receive, receive_rows); });
}

Pending RecordingCommunicator::initiate_send(ConstView values, int to) {
  return record("send", values.bytes(), 0, [&] { return wrapped_->initiate_send(values, to); });
}

Pending RecordingCommunicator::initiate_receive(View values, int from) {
  return record("receive", 0, values.bytes(), [&] { return wrapped_->initiate_receive(values, from); });
}

Pending RecordingCommunicator::initiate_broadcast(View values, int root) {
  const std::int64_t sent = rank() == root ? (size() - 1) * values.bytes() : 0;
  return record("broadcast", sent, rank() == root ? 0 : values.bytes(),
                [&] { return wrapped_->initiate_broadcast(values, root); });
}

void RecordingCommunicator::barrier() {
  const std::int64_t operation = recording_.initiate(channel_, "barrier", 0, 0);
  wrapped_->barrier();
  recording_.complete(operation);
}

}  // namespace moesaic
