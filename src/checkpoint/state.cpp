#include "moesaic/checkpoint/state.hpp"

#include <algorithm>

namespace moesaic {
namespace {

using Units = std::vector<std::unique_ptr<ShardedUnit>>;

/// The position in `units` of the one that holds the values of the unit named `name`; a copy on another stage's behalf when the
/// unit itself is not here; units.size() when this rank has neither.
std::size_t position_of(const Units& units, const std::string& name) {
  std::size_t copy = units.size();
  for (std::size_t i = 0; i < units.size(); ++i) {
    if (units[i]->spec().name == name) return i;
    if (units[i]->spec().tied_to == name && !units[i]->tied()) copy = i;
  }
  return copy;
}

/// An array of which this rank has nothing.
StateArray elsewhere(const std::string& name, DType type, const Extents& shape) {
  return {.name = name,
          .type = type,
          .shape = shape,
          .elements = {},
          .values = View(nullptr, type, DeviceKind::cpu, {0}),
          .owner = false};
}

/// The array of parameter `index` of a unit under `group`, with this rank's run of `slice` (moments have slices alike).
StateArray array_of(const ShardedUnit& unit, int index, const std::string& group, View slice) {
  const ParameterSpec& parameter = unit.spec().parameters[static_cast<std::size_t>(index)];
  StateArray array = elsewhere(group + parameter.name, slice.dtype(), parameter.shape);
  array.values = slice.rows(0, 0);
  array.owner = unit.replicas().rank() == 0 && unit.spec().tied_to.empty();
  for (const SlicePiece& piece : unit.pieces()) {
    if (piece.parameter != index) continue;
    array.elements = piece.elements;
    array.values = slice.rows(piece.at, piece.at + piece.elements.size());
  }
  return array;
}

/// The arrays of all units of the model under `group`; slice(i): what this rank holds of its unit i.
template <class Slice>
void add_units(std::vector<StateArray>& arrays, const Model& model, const Units& units, const std::string& group,
               DType type, const Slice& slice) {
  for (const UnitSpec& unit : model.units()) {
    if (!unit.tied_to.empty()) continue;
    const std::size_t here = position_of(units, unit.name);
    for (int i = 0; i < static_cast<int>(unit.parameters.size()); ++i) {
      const ParameterSpec& parameter = unit.parameters[static_cast<std::size_t>(i)];
      arrays.push_back(here < units.size() ? array_of(*units[here], i, group, slice(here))
                                           : elsewhere(group + parameter.name, type, parameter.shape));
    }
  }
}

void add_biases(std::vector<StateArray>& arrays, const Model& model, bool owner) {
  const std::vector<std::int64_t>& here = model.account_layers();
  for (std::int64_t layer = 0; layer < model.moe_layers(); ++layer) {
    const std::int64_t experts = model.biased_experts(layer);
    if (experts == 0) continue;
    StateArray array = elsewhere(selection_bias_name(layer), DType::f32, {experts});
    const auto found = std::find(here.begin(), here.end(), layer);
    if (found != here.end()) {
      array.values = model.accounts()[static_cast<std::size_t>(found - here.begin())].selection_bias;
      array.elements = {0, experts};
      array.owner = owner;
    }
    arrays.push_back(array);
  }
}

}  // namespace

std::vector<StateArray> expected_state(const Model& model, std::optional<DType> moments) {
  const Units none;
  const auto nothing = [](std::size_t) { return View(); };
  std::vector<StateArray> arrays;
  add_units(arrays, model, none, "/parameters/", DType::f32, nothing);
  add_biases(arrays, model, false);
  if (moments) add_units(arrays, model, none, "/optimizer/first_moment/", *moments, nothing);
  if (moments) add_units(arrays, model, none, "/optimizer/second_moment/", *moments, nothing);
  return arrays;
}

std::vector<StateArray> parameter_state(const Units& units, const Model& model, bool owns_biases) {
  std::vector<StateArray> arrays;
  add_units(arrays, model, units, "/parameters/", DType::f32, [&](std::size_t i) { return units[i]->values(); });
  add_biases(arrays, model, owns_biases);
  return arrays;
}

std::vector<StateArray> training_state(const Units& units, const Optimizer& optimizer, const Model& model,
                                       bool owns_biases) {
  std::vector<StateArray> arrays = parameter_state(units, model, owns_biases);
  const DType type = optimizer.moments();
  add_units(arrays, model, units, "/optimizer/first_moment/", type,
            [&](std::size_t i) { return optimizer.first_moment(i); });
  add_units(arrays, model, units, "/optimizer/second_moment/", type,
            [&](std::size_t i) { return optimizer.second_moment(i); });
  return arrays;
}

}  // namespace moesaic
