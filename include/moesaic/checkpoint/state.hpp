#pragma once
/// What a checkpoint holds of the training state: global arrays, and the part of each that this rank owns.

#include <optional>
#include <string>
#include <vector>

#include "moesaic/grid/block.hpp"
#include "moesaic/models/model.hpp"
#include "moesaic/optim/optimizer.hpp"

namespace moesaic {

/// One global array. `elements` is the flat, row-major range of it that `values` holds; the owner writes it, whoever holds
/// it reads it. A range may be empty.
struct StateArray {
  std::string name;  ///< absolute path in the file, e.g. "/parameters/blocks/0/attention/output"
  DType type = DType::f32;
  Extents shape;
  Block elements;
  View values;
  bool owner = true;  ///< false on replicas
};

/// Parameters and both moments of every unit of the whole model, and the routers' selection biases, in the same order on
/// every rank; of arrays that lie on other stages this rank has nothing. `owns_biases`: this rank writes the biases of its
/// stage (one rank a stage does).
std::vector<StateArray> training_state(const std::vector<std::unique_ptr<ShardedUnit>>& units,
                                       const Optimizer& optimizer, const Model& model, bool owns_biases);

/// The parameters and biases alone (evaluation, model.init = a checkpoint).
std::vector<StateArray> parameter_state(const std::vector<std::unique_ptr<ShardedUnit>>& units, const Model& model,
                                        bool owns_biases);

/// Names, types and shapes of the same arrays, without values: what a checkpoint of `model` must hold. `moments`: their
/// type; none: the parameters alone.
std::vector<StateArray> expected_state(const Model& model, std::optional<DType> moments);

}  // namespace moesaic
