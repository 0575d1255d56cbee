#pragma once
/// Weights from a Hugging Face folder into this rank's slices, and nothing but those. Quantised tensors become numbers on the
/// way.

#include <string_view>
#include <vector>

#include "moesaic/io/safetensors.hpp"
#include "moesaic/models/model_spec.hpp"
#include "moesaic/parallel/sharded_unit.hpp"

namespace moesaic {

/// Checks that every tensor of `pieces` is there with the right shape: InputError names the tensor and both shapes.
/// `first_rows`: a tensor may have more rows than the model (a slice takes the first).
void check_hf_weights(const SafetensorsFolder& folder, const std::vector<HfPiece>& pieces, bool first_rows);

/// out [elements.size()] = those elements of the flattened parameter, as f32. Beside `out` it holds at most one tensor; of a
/// consecutive piece only what is asked for is read, of a strided one whole rows (elements of its first dimension).
void read_hf_parameter(const SafetensorsFolder& folder, const std::vector<HfPiece>& pieces, std::string_view parameter,
                       Block elements, float* out);

/// Reads the elements that this rank's slice of `unit` holds, converted to f32. Local; host memory.
void load_hf_weights(const SafetensorsFolder& folder, const std::vector<HfPiece>& pieces, ShardedUnit& unit);

}  // namespace moesaic
