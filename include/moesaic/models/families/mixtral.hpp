#pragma once
/// Mixtral (Jiang et al. 2024, arXiv 2401.04088): grouped-query attention and a softmax router, every block sparse.

#include <vector>

#include "moesaic/io/hf_config.hpp"
#include "moesaic/models/model_spec.hpp"

namespace moesaic::mixtral {

/// InputError for what is not built and for sizes that do not fit together.
ModelSpec spec(const HfConfig& config, const ModelOverrides& overrides);

/// Of expert e, w1 is gate, w3 is up and w2 is down.
std::vector<HfPiece> pieces(const ModelSpec& spec);

}  // namespace moesaic::mixtral
