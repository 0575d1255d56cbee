#pragma once
/// The second stage of the router's statistics.

#include "moesaic/kernels/context.hpp"

namespace moesaic::cuda {

/// counts and probability_sums [groups, experts] = sums over the rows of partial_counts (i32) and partial_sums (f32),
/// [chunks, groups * experts], in a fixed order; zeros without a chunk.
void sum_router_partials(const OperatorContext& context, ConstView partial_counts, ConstView partial_sums, View counts,
                         View probability_sums);

}  // namespace moesaic::cuda
