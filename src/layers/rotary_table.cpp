#include "moesaic/layers/rotary_table.hpp"

#include <cmath>
#include <vector>

#include "moesaic/tensor/transfer.hpp"

namespace moesaic {
namespace {

/// Position times frequency, [positions, pairs].
std::vector<double> angles(std::int64_t positions, const std::vector<double>& frequencies) {
  std::vector<double> result;
  result.reserve(static_cast<std::size_t>(positions) * frequencies.size());
  for (std::int64_t p = 0; p < positions; ++p)
    for (double frequency : frequencies) result.push_back(static_cast<double>(p) * frequency);
  return result;
}

template <class T> void copy_over(const std::vector<double>& values, View out) {
  const std::vector<T> converted(values.begin(), values.end());
  const Stream stream{out.device(), nullptr};
  upload(stream, host_view(converted.data(), out.extents()), out);
  wait_for(stream);
}

/// The values in the arena's memory, there when this returns.
Tensor place(Arena& arena, DType type, Extents extents, const std::vector<double>& values) {
  Tensor table = arena.tensor(type, extents, Label::batch);
  type == DType::f64 ? copy_over<double>(values, table) : copy_over<float>(values, table);
  return table;
}

}  // namespace

RotaryTable::RotaryTable(Arena& arena, DType type, std::int64_t positions, std::int64_t width, const RopeSpec& rope) {
  const std::vector<double> turns = angles(positions, rotary_frequencies(rope, width));
  const double factor = rotary_factor(rope);
  std::vector<double> cosines, sines;
  for (double angle : turns) {
    cosines.push_back(factor * std::cos(angle));
    sines.push_back(factor * std::sin(angle));
  }
  cosine_ = place(arena, type, {positions, width / 2}, cosines);
  sine_ = place(arena, type, {positions, width / 2}, sines);
}

}  // namespace moesaic
