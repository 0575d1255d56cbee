#include "moesaic/comm/exchange_counts.hpp"

namespace moesaic {

std::vector<std::int64_t> exchange_counts(Communicator& communicator, std::span<const std::int64_t> counts) {
  const auto size = static_cast<std::int64_t>(counts.size());
  MOESAIC_EXPECT(size % communicator.size() == 0);
  const std::vector<std::int64_t> rows(static_cast<std::size_t>(communicator.size()), 1);
  const Extents extents{communicator.size(), size / communicator.size()};
  std::vector<std::int64_t> received(counts.size());
  communicator.all_to_all(host_view(counts.data(), extents), rows, host_view(received.data(), extents), rows);
  return received;
}

}  // namespace moesaic
