#pragma once
/// Operators that leave a trace in the thread's timeline.

#include "moesaic/kernels/operators.hpp"
#include "moesaic/tensor/timeline.hpp"

namespace moesaic {

/// Each does what that of its stream's device does; while a timeline records, in a span that says the operator's name, its
/// shape, its FLOPs (matrix products and attention, whose mask counts but for documents) and its bytes: every view read or
/// written once, twice where an output is added to. The shape of products is rows x columns x summed, of other operators the
/// extents of the largest view; empty for flat ones.
const Operators& profiled_operators();

}  // namespace moesaic
