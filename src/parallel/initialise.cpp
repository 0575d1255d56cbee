#include "moesaic/parallel/initialise.hpp"

#include <algorithm>

#include "moesaic/base/random.hpp"

namespace moesaic {

void initialise_random(ShardedUnit& unit, std::uint64_t seed, double range) {
  float* values = unit.values().data<float>();
  std::fill_n(values, unit.values().size(), 0.0f);
  for (const SlicePiece& piece : unit.pieces()) {
    const ParameterSpec& parameter = unit.spec().parameters[static_cast<std::size_t>(piece.parameter)];
    const std::span<float> run(values + piece.at, static_cast<std::size_t>(piece.elements.size()));
    if (parameter.initialisation == Initialisation::normal)
      fill_normal(random_key(seed, parameter.name), static_cast<std::uint64_t>(piece.elements.begin), run, range);
    else
      std::fill(run.begin(), run.end(), parameter.initialisation == Initialisation::ones ? 1.0f : 0.0f);
  }
}

}  // namespace moesaic
