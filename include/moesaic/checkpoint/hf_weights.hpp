#pragma once
/// Weights from a Hugging Face folder into this rank's slices, and nothing but those.

#include "moesaic/io/safetensors.hpp"
#include "moesaic/models/model_spec.hpp"
#include "moesaic/parallel/sharded_unit.hpp"

namespace moesaic {

/// Checks that every tensor of `pieces` is there with the right shape: InputError names the tensor and both shapes.
/// `first_rows`: a tensor may have more rows than the model (a slice takes the first).
void check_hf_weights(const SafetensorsFolder& folder, const std::vector<HfPiece>& pieces, bool first_rows);

/// Reads the elements that this rank's slice of `unit` holds, converted to f32. Local; host memory.
void load_hf_weights(const SafetensorsFolder& folder, const std::vector<HfPiece>& pieces, ShardedUnit& unit);

}  // namespace moesaic
