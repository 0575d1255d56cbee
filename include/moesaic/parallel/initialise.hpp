#pragma once
/// Random initialisation of this rank's slices.

#include "moesaic/parallel/sharded_unit.hpp"

namespace moesaic {

/// Fills the values of `unit` as its parameters declare: normal with standard deviation `range` keyed by seed, parameter
/// name and global element index, ones or zeros. The same bits on every grid. Host memory.
void initialise_random(ShardedUnit& unit, std::uint64_t seed, double range);

}  // namespace moesaic
