#include "moesaic/io/shape.hpp"

#include <fmt/ranges.h>

namespace moesaic {

Shape shape_of(const Extents& extents) {
  Shape shape;
  for (int dimension = 0; dimension < extents.rank(); ++dimension) shape.push_back(extents[dimension]);
  return shape;
}

std::optional<std::int64_t> element_count(const Shape& shape) {
  std::int64_t count = 1;
  for (std::int64_t extent : shape) {
    if (extent < 0 || __builtin_mul_overflow(count, extent, &count)) return std::nullopt;
  }
  return count;
}

std::string to_text(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

}  // namespace moesaic
