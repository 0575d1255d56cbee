#include "moesaic/checkpoint/hf_weights.hpp"

#include <algorithm>

#include "moesaic/base/contract.hpp"
#include "moesaic/checkpoint/piece_groups.hpp"
#include "moesaic/io/hf_tensor.hpp"

namespace moesaic {
namespace {

constexpr std::int64_t elements_at_once = std::int64_t{1} << 22;  // of a strided piece, unless a row has more

/// Whether `wanted` are the dimensions `found`, some of them split: [8, 4] as [8, 2, 2].
bool splits(const Shape& found, const Extents& wanted) {
  int at = 0;
  for (const std::int64_t extent : found) {
    if (at == wanted.rank()) return false;
    std::int64_t product = wanted[at++];
    while (product < extent && at < wanted.rank()) product *= wanted[at++];
    if (product != extent) return false;
  }
  return at == wanted.rank();
}

bool fits(Shape found, const Extents& wanted, bool first_rows) {
  if (splits(found, wanted)) return true;
  if (!first_rows || found.empty() || wanted.rank() == 0 || wanted[0] > found[0]) return false;
  found[0] = wanted[0];
  return splits(found, wanted);
}

/// A consecutive piece: the part of it that lies in `run` is consecutive in the tensor, too.
void read_consecutive(const SafetensorsFolder& folder, const HfTensor& tensor, const HfPiece& piece, Block run,
                      float* out) {
  const Block overlap = intersection({piece.offset, piece.offset + piece.shape.size()}, run);
  if (overlap.empty()) return;
  read_hf_tensor(folder, tensor, {overlap.begin - piece.offset, overlap.end - piece.offset},
                 out + (overlap.begin - run.begin));
}

/// Rows of the tensor that have elements in `run`, group by group.
void read_strided(const SafetensorsFolder& folder, const HfTensor& tensor, const HfPiece& piece, Block run,
                  float* out) {
  std::vector<float> values;
  const std::int64_t row = row_size(piece);
  for (const PieceGroup& group : groups_of(piece, elements_at_once)) {
    if (intersection(group.covered, run).empty()) continue;
    values.resize(static_cast<std::size_t>(group.rows.size() * row));
    read_hf_tensor(folder, tensor, {group.rows.begin * row, group.rows.end * row}, values.data());
    for_each_element(piece, group.rows, [&](std::int64_t i, std::int64_t at) {
      if (run.contains(at)) out[at - run.begin] = values[static_cast<std::size_t>(i)];
    });
  }
}

HfTensor required_tensor(const SafetensorsFolder& folder, const std::string& name) {
  const std::optional<HfTensor> tensor = find_hf_tensor(folder, name);
  MOESAIC_VALIDATE(tensor.has_value(),
                   "{} has no tensor {} (the model of this deck needs it); check model.config and model.init",
                   folder.path().string(), name);
  return *tensor;
}

}  // namespace

void check_hf_weights(const SafetensorsFolder& folder, const std::vector<HfPiece>& pieces, bool first_rows) {
  for (const HfPiece& piece : pieces) {
    if (piece.copy) continue;
    const HfTensor tensor = required_tensor(folder, piece.tensor);
    MOESAIC_VALIDATE(
        converts_to<float>(tensor.type),
        "{}: {} is stored as {} (weights are F32, BF16, F16 or F64, F8_E4M3 with scales in {}_scale_inv, or "
        "MXFP4); convert it first",
        folder.path().string(), piece.tensor, name_of(tensor.type), piece.tensor);
    MOESAIC_VALIDATE(fits(tensor.shape, piece.shape, first_rows),
                     "{}: {} has shape {} where the model of this deck has {}; use the config.json of that folder",
                     folder.path().string(), piece.tensor, to_text(tensor.shape), to_text(shape_of(piece.shape)));
  }
}

void read_hf_parameter(const SafetensorsFolder& folder, const std::vector<HfPiece>& pieces, std::string_view parameter,
                       Block elements, float* out) {
  for (const HfPiece& piece : pieces) {
    if (piece.parameter != parameter || piece.copy) continue;
    const HfTensor tensor = required_tensor(folder, piece.tensor);
    if (piece.strides.empty())
      read_consecutive(folder, tensor, piece, elements, out);
    else
      read_strided(folder, tensor, piece, elements, out);
  }
}

void load_hf_weights(const SafetensorsFolder& folder, const std::vector<HfPiece>& pieces, ShardedUnit& unit) {
  unit.set_values([&](float* values) {
    std::fill_n(values, unit.layout().slice(), 0.0f);
    for (const SlicePiece& mine : unit.pieces()) {
      const std::string& name = unit.spec().parameters[static_cast<std::size_t>(mine.parameter)].name;
      read_hf_parameter(folder, pieces, name, mine.elements, values + mine.at);
    }
  });
}

}  // namespace moesaic
