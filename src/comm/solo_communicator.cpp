#include "moesaic/comm/solo_communicator.hpp"

#include "moesaic/base/contract.hpp"
#include "moesaic/tensor/transfer.hpp"

namespace moesaic {

Pending SoloCommunicator::copied(ConstView from, View to) const {
  if (from.raw() != to.raw()) copy_within(stream_, from, to);
  return {};
}

Pending SoloCommunicator::initiate_all_to_all(ConstView send, std::span<const std::int64_t> send_rows, View receive,
                                              std::span<const std::int64_t> receive_rows) {
  MOESAIC_EXPECT(send_rows.size() == 1 && receive_rows.size() == 1 && send_rows[0] == receive_rows[0]);
  return copied(send.rows(0, send_rows[0]), receive.rows(0, receive_rows[0]));
}

Pending SoloCommunicator::nobody() const {
  throw RunError("a rank that is alone in its group was to send or to receive (a fault of this program)");
}

}  // namespace moesaic
