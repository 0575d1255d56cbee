#include "moesaic/comm/laned_communicator.hpp"

#include <algorithm>

namespace moesaic {

Communicator& LanedCommunicator::lane(int from, int to) const {
  if (grouping_ || to - from != step_) return *lanes_[0];
  return *lanes_[static_cast<std::size_t>(1 + std::min(from, to) % 2)];
}

Pending LanedCommunicator::initiate_receive(View values, int from) {
  Communicator& lane = this->lane(from, rank());
  if (grouping_) return lane.initiate_receive(values, from);
  return Pending([&lane, values, from] { lane.initiate_receive(values, from).complete(); });
}

}  // namespace moesaic
