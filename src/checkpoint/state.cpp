#include "moesaic/checkpoint/state.hpp"

namespace moesaic {
namespace {

/// The array of parameter `index` of a unit under `group`, with this rank's run of `slice` (moments have slices alike).
StateArray array_of(const ShardedUnit& unit, int index, const std::string& group, View slice) {
  const ParameterSpec& parameter = unit.spec().parameters[static_cast<std::size_t>(index)];
  StateArray array{.name = group + parameter.name, .type = slice.dtype(), .shape = parameter.shape, .elements = {},
                   .values = slice.rows(0, 0), .owner = unit.replicas().rank() == 0};
  for (const SlicePiece& piece : unit.pieces()) {
    if (piece.parameter != index) continue;
    array.elements = piece.elements;
    array.values = slice.rows(piece.at, piece.at + piece.elements.size());
  }
  return array;
}

void add_unit(std::vector<StateArray>& arrays, const ShardedUnit& unit, const std::string& group, View slice) {
  for (int i = 0; i < static_cast<int>(unit.spec().parameters.size()); ++i)
    arrays.push_back(array_of(unit, i, group, slice));
}

void add_biases(std::vector<StateArray>& arrays, Model& model, int rank) {
  for (std::size_t layer = 0; layer < model.accounts().size(); ++layer) {
    const View bias = model.accounts()[layer].selection_bias;
    if (bias.absent()) continue;
    arrays.push_back({.name = "/router/selection_bias/" + std::to_string(layer), .type = bias.dtype(),
                      .shape = bias.extents(), .elements = {0, bias.size()}, .values = bias, .owner = rank == 0});
  }
}

}  // namespace

std::vector<StateArray> parameter_state(const std::vector<std::unique_ptr<ShardedUnit>>& units, Model& model, int rank) {
  std::vector<StateArray> arrays;
  for (const auto& unit : units)
    if (!unit->tied()) add_unit(arrays, *unit, "/parameters/", unit->values());
  add_biases(arrays, model, rank);
  return arrays;
}

std::vector<StateArray> training_state(const std::vector<std::unique_ptr<ShardedUnit>>& units, const Optimizer& optimizer,
                                       Model& model, int rank) {
  std::vector<StateArray> arrays = parameter_state(units, model, rank);
  for (std::size_t i = 0; i < units.size(); ++i) {
    if (units[i]->tied()) continue;
    add_unit(arrays, *units[i], "/optimizer/first_moment/", optimizer.first_moment(i));
    add_unit(arrays, *units[i], "/optimizer/second_moment/", optimizer.second_moment(i));
  }
  return arrays;
}

}  // namespace moesaic
