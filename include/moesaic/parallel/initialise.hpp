#pragma once
/// Random initialisation of this rank's slices.

#include "moesaic/parallel/sharded_unit.hpp"

namespace moesaic {

/// Fills the values of `unit` as its parameters declare: normal with standard deviation `range` keyed by seed, parameter
/// name and global element index, ones or zeros. On one kind of device the same bits on every
/// grid.
void initialise_random(const ShardedUnit& unit, std::uint64_t seed, double range);

}  // namespace moesaic
