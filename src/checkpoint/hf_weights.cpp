#include "moesaic/checkpoint/hf_weights.hpp"

#include <algorithm>

#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

bool fits(const Shape& found, const Shape& wanted, bool first_rows) {
  if (found == wanted) return true;
  return first_rows && found.size() == wanted.size() && !wanted.empty() && found[0] >= wanted[0] &&
         std::equal(found.begin() + 1, found.end(), wanted.begin() + 1);
}

/// The part of `piece` that lies in `run` of its parameter, read to where the run lies in memory.
void read_overlap(const SafetensorsFolder& folder, const HfPiece& piece, Block run, float* out) {
  const Block overlap = intersection({piece.offset, piece.offset + piece.shape.size()}, run);
  if (overlap.empty()) return;
  folder.read_slice(piece.tensor, overlap.begin - piece.offset, overlap.size(), out + (overlap.begin - run.begin));
}

}  // namespace

void check_hf_weights(const SafetensorsFolder& folder, const std::vector<HfPiece>& pieces, bool first_rows) {
  for (const HfPiece& piece : pieces) {
    MOESAIC_VALIDATE(folder.contains(piece.tensor),
                     "{} has no tensor {} (the model of this deck needs it); check model.config and model.init",
                     folder.path().string(), piece.tensor);
    const StorageType type = folder.find(piece.tensor).type;
    MOESAIC_VALIDATE(converts_to<float>(type),
                     "{}: {} is stored as {} (weights are F32, BF16, F16 or F64); convert it first",
                     folder.path().string(), piece.tensor, name_of(type));
    const Shape& found = folder.find(piece.tensor).shape;
    MOESAIC_VALIDATE(fits(found, shape_of(piece.shape), first_rows),
                     "{}: {} has shape {} where the model of this deck has {}; use the config.json of that folder",
                     folder.path().string(), piece.tensor, to_text(found), to_text(shape_of(piece.shape)));
  }
}

void load_hf_weights(const SafetensorsFolder& folder, const std::vector<HfPiece>& pieces, ShardedUnit& unit) {
  float* values = unit.values().data<float>();
  std::fill_n(values, unit.values().size(), 0.0f);
  for (const SlicePiece& mine : unit.pieces()) {
    const std::string& name = unit.spec().parameters[static_cast<std::size_t>(mine.parameter)].name;
    for (const HfPiece& piece : pieces)
      if (piece.parameter == name) read_overlap(folder, piece, mine.elements, values + mine.at);
  }
}

}  // namespace moesaic
