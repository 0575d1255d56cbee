#pragma once
/// Sums over ranks, always in rank order.

#include <span>

#include "moesaic/tensor/view.hpp"

namespace moesaic {

/// out [n] = ((parts[0] + parts[1]) + parts[2]) + ..., element by element, rounded after each addition: the bits depend
/// on nothing but the parts. Each part has n elements of out's type (f32, f64, i32 or i64) in host memory; `out` may be
/// one of them. Example: parts {1, 2}, {10, 20} give {11, 22}.
void sum_in_rank_order(std::span<const void* const> parts, View out);

}  // namespace moesaic
