#pragma once
/// Qwen3-MoE (Yang et al. 2025, arXiv 2505.09388): grouped-query attention with a norm on each query and key head, a
/// softmax router, and dense blocks where the config says so.

#include <vector>

#include "moesaic/io/hf_config.hpp"
#include "moesaic/models/model_spec.hpp"

namespace moesaic::qwen3_moe {

/// Reads both the present spelling (num_local_experts, rope_parameters) and the hub's older one (num_experts, rope_theta
/// with rope_scaling). InputError for what is not built and for sizes that do not fit together.
ModelSpec spec(const HfConfig& config, const ModelOverrides& overrides);

/// q, k and v are rows of attention/query_key_value; gate and up of expert e are rows of experts/gate_up[e].
std::vector<HfPiece> pieces(const ModelSpec& spec);

}  // namespace moesaic::qwen3_moe
