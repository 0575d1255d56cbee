#pragma once
/// DeepSeek-V3 (arXiv 2412.19437) and Kimi K2 (arXiv 2507.20534): multi-head latent attention, leading dense blocks, a
/// sigmoid router with correction biases and groups of experts, shared experts.

#include <vector>

#include "moesaic/io/hf_config.hpp"
#include "moesaic/models/model_spec.hpp"

namespace moesaic::deepseek_v3 {

/// Reads rope_parameters and the hub's rope_theta with rope_scaling. One depth of multi-token prediction is part of
/// the model where the overrides ask for it. InputError for what is not built and for sizes that do not fit together.
ModelSpec spec(const HfConfig& config, const ModelOverrides& overrides);

/// q_a_proj (or q_proj) and kv_a_proj_with_mqa are rows of attention/query_key_value. e_score_correction_bias of MoE layer i
/// is a piece of the state "/router/selection_bias/i", which is no parameter. The depth of multi-token
/// prediction is the layer behind the last; there the hub has copies of embedding and head, too.
std::vector<HfPiece> pieces(const ModelSpec& spec);

}  // namespace moesaic::deepseek_v3
