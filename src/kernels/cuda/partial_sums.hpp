#pragma once
/// The second stage of sums over rows: the first leaves one partial sum a chunk of rows.

#include "moesaic/kernels/context.hpp"

namespace moesaic::cuda {

/// sums [width] += the rows of partials [chunks, width] (f32, contiguous), in a fixed order.
void add_partial_sums(const OperatorContext& context, ConstView partials, View sums);

}  // namespace moesaic::cuda
