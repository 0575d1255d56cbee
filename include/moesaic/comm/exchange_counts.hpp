#pragma once
/// What ranks tell each other before a variable exchange.

#include <cstdint>
#include <span>
#include <vector>

#include "moesaic/comm/communicator.hpp"

namespace moesaic {

/// Sends counts [size, k] (row r goes to rank r) and returns [size, k] (row r came from rank r). `communicator` must be
/// one over host memory; the host waits. Example on two ranks: rank 0 sends {1, 2}, rank 1 sends {3, 4}; rank 0 gets
/// {1, 3}, rank 1 gets {2, 4}.
std::vector<std::int64_t> exchange_counts(Communicator& communicator, std::span<const std::int64_t> counts);

}  // namespace moesaic
