#pragma once
/// GPT-OSS (OpenAI 2025, arXiv 2508.10925): grouped-query attention with biases and sinks, of which every other block sees a
/// window; experts with biases and a clamped SwiGLU; YaRN.

#include <vector>

#include "moesaic/io/hf_config.hpp"
#include "moesaic/models/model_spec.hpp"

namespace moesaic::gpt_oss {

/// Top-k before the softmax is a softmax over all, renormalised over the chosen ones. InputError for what is not built and
/// for sizes that do not fit together.
ModelSpec spec(const HfConfig& config, const ModelOverrides& overrides);

/// The experts of a block are one tensor a projection, input-major, the columns of gate and up alternating.
std::vector<HfPiece> pieces(const ModelSpec& spec);

}  // namespace moesaic::gpt_oss
