#pragma once
/// Shapes as files store them: any number of dimensions, row-major.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "moesaic/tensor/view.hpp"

namespace moesaic {

/// Extents from the slowest to the fastest dimension; empty is a scalar.
using Shape = std::vector<std::int64_t>;

Shape shape_of(const Extents& extents);

/// Number of elements (1 for a scalar), or nothing when an extent is negative or the product leaves 63 bits.
std::optional<std::int64_t> element_count(const Shape& shape);

/// "[64, 32]".
std::string to_text(const Shape& shape);

}  // namespace moesaic
