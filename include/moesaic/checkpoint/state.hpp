#pragma once
/// What a checkpoint holds of the training state: global arrays, and the part of each that this rank owns.

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

/// Parameters and both moments of every unit, and the routers' selection biases, in a fixed order.
std::vector<StateArray> training_state(const std::vector<std::unique_ptr<ShardedUnit>>& units, const Optimizer& optimizer,
                                       Model& model, int rank);

/// The parameters alone (evaluation, model.init = a checkpoint).
std::vector<StateArray> parameter_state(const std::vector<std::unique_ptr<ShardedUnit>>& units, Model& model, int rank);

}  // namespace moesaic
