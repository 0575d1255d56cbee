#include "moesaic/parallel/initialise.hpp"

#include "moesaic/base/random.hpp"

namespace moesaic {

void initialise_random(const ShardedUnit& unit, std::uint64_t seed, double range) {
  const LayerContext& context = unit.context();
  const Operators& ops = *context.ops;
  ops.fill(context.on, 0, unit.values());
  for (const SlicePiece& piece : unit.pieces()) {
    const ParameterSpec& parameter = unit.spec().parameters[static_cast<std::size_t>(piece.parameter)];
    const View run = unit.values().rows(piece.at, piece.at + piece.elements.size());
    if (parameter.initialisation == Initialisation::normal)
      ops.fill_normal(context.on, random_key(seed, parameter.name), piece.elements.begin, range, run);
    else
      ops.fill(context.on, parameter.initialisation == Initialisation::ones ? 1 : 0, run);
  }
}

}  // namespace moesaic
