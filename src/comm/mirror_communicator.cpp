#include "moesaic/comm/mirror_communicator.hpp"

#include <algorithm>
#include <cstring>

#include "moesaic/comm/rank_order_sum.hpp"
#include "moesaic/comm/row_ranges.hpp"

namespace moesaic {

namespace {

/// Fills `to` with what there is of `from`, then with zeros.
void copy_or_zero(void* to, std::int64_t bytes, const void* from, std::int64_t available) {
  const auto copied = static_cast<std::size_t>(std::min(bytes, available));
  const auto rest = static_cast<std::size_t>(bytes) - copied;
  if (copied > 0) std::memmove(to, from, copied);
  if (rest > 0) std::memset(static_cast<char*>(to) + copied, 0, rest);
}

}  // namespace

Pending MirrorCommunicator::initiate_all_gather(ConstView mine, View all) {
  MOESAIC_EXPECT(mine.contiguous() && all.contiguous() && all.size() == size_ * mine.size());
  return Pending([mine, all, size = size_] {
    for (int r = 0; r < size; ++r) {
      copy_or_zero(static_cast<char*>(all.raw()) + r * mine.bytes(), mine.bytes(), mine.raw(), mine.bytes());
    }
  });
}

Pending MirrorCommunicator::initiate_reduce_scatter(ConstView all, View mine) {
  MOESAIC_EXPECT(mine.contiguous() && all.contiguous() && all.size() == size_ * mine.size());
  return Pending([all, mine, size = size_] {
    sum_in_rank_order(std::vector<const void*>(static_cast<std::size_t>(size), all.raw()), mine);
  });
}

Pending MirrorCommunicator::initiate_all_reduce(View values) {
  return Pending([values, size = size_] {
    sum_in_rank_order(std::vector<const void*>(static_cast<std::size_t>(size), values.raw()), values);
  });
}

Pending MirrorCommunicator::initiate_all_to_all(ConstView send, std::span<const std::int64_t> send_rows, View receive,
                                                std::span<const std::int64_t> receive_rows) {
  const RowRanges sent(send, send_rows), received(receive, receive_rows);
  MOESAIC_EXPECT(sent.parts() == size_ && received.parts() == size_);
  return Pending([send, receive, sent, received] {
    for (int r = 0; r < received.parts(); ++r) {
      copy_or_zero(static_cast<char*>(receive.raw()) + received.offset(r), received.bytes(r), send.raw(),
                   sent.bytes(0));
    }
  });
}

Pending MirrorCommunicator::initiate_send(ConstView values, int) {
  const auto* bytes = static_cast<const std::byte*>(values.raw());
  messages_->emplace_back(bytes, bytes + values.bytes());
  return Pending([] {});
}

Pending MirrorCommunicator::initiate_receive(View values, int) {
  return Pending([values, messages = messages_] {
    Message message;
    if (!messages->empty()) {
      message = std::move(messages->front());
      messages->pop_front();
    }
    copy_or_zero(values.raw(), values.bytes(), message.data(), static_cast<std::int64_t>(message.size()));
  });
}

Pending MirrorCommunicator::initiate_broadcast(View, int) {
  return Pending([] {});
}

}  // namespace moesaic
