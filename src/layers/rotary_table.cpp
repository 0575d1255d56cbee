#include "moesaic/layers/rotary_table.hpp"

#include <cmath>
#include <vector>

namespace moesaic {
namespace {

std::vector<double> angles(std::int64_t positions, std::int64_t width, double theta) {
  const std::int64_t pairs = width / 2;
  std::vector<double> result;
  result.reserve(static_cast<std::size_t>(positions * pairs));
  for (std::int64_t p = 0; p < positions; ++p) {
    for (std::int64_t i = 0; i < pairs; ++i) {
      const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(width);
      result.push_back(static_cast<double>(p) * std::pow(theta, exponent));
    }
  }
  return result;
}

template <class T> void write(const std::vector<double>& values, double (*function)(double), View out) {
  T* target = out.data<T>();
  for (double value : values) *target++ = static_cast<T>(function(value));
}

/// function(values) in the arena's memory. The one place that a device arena changes: fill a host tensor, copy it over.
Tensor place(Arena& arena, DType type, Extents extents, const std::vector<double>& values, double (*function)(double)) {
  MOESAIC_EXPECT(arena.device() == DeviceKind::cpu);
  Tensor table = arena.tensor(type, extents, Label::batch);
  if (type == DType::f64) {
    write<double>(values, function, table);
  } else {
    write<float>(values, function, table);
  }
  return table;
}

}  // namespace

RotaryTable::RotaryTable(Arena& arena, DType type, std::int64_t positions, std::int64_t width, double theta) {
  MOESAIC_EXPECT(width % 2 == 0);
  const std::vector<double> values = angles(positions, width, theta);
  const Extents extents{positions, width / 2};
  cosine_ = place(arena, type, extents, values, [](double x) { return std::cos(x); });
  sine_ = place(arena, type, extents, values, [](double x) { return std::sin(x); });
}

}  // namespace moesaic
