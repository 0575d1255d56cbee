#pragma once
/// The arrays of a model in a checkpoint, without a run.

#include <vector>

#include "moesaic/checkpoint/state.hpp"

namespace moesaic {

/// Names, types and shapes of parameters and selection biases.
std::vector<StateArray> model_arrays(const ModelSpec& spec);

/// The array that a Hugging Face tensor is part of.
std::string array_of(const HfPiece& piece);

}  // namespace moesaic
