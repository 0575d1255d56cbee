// Qwen3-MoE (Yang et al. 2025, arXiv 2505.09388): grouped-query attention with a norm on each query and key head, a
// softmax router, and dense blocks where the config says so.
#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "moesaic/base/contract.hpp"
#include "moesaic/models/config_reading.hpp"
#include "moesaic/models/family.hpp"
#include "moesaic/models/pieces.hpp"

namespace moesaic::families {

namespace {

using namespace config_reading;

void refuse_unsupported_attention(const HfConfig& config) {
  refuse_attention_bias(config);
  refuse_dropout(config);
  MOESAIC_VALIDATE(!config.flag("use_sliding_window", false),
                   "{}: 'use_sliding_window' is true (for this family windowed attention is not built); set it to "
                   "false, which attends "
                   "to the whole sequence",
                   config.origin());
  for (const std::string& type : config.texts("layer_types", {})) {
    MOESAIC_VALIDATE(
        type == "full_attention",
        "{}: 'layer_types' holds '{}' (for this family only full_attention is built); use a model without it",
        config.origin(), type);
  }
}

RopeSpec rope_spec(const HfConfig& config) {
  const Rope rope = config.rope();
  MOESAIC_VALIDATE(rope.type == "default",
                   "{}: the rope type is '{}' (only 'default' is built for this family); remove the scaling to train "
                   "at the original length",
                   rope.parameters.origin(), rope.type);
  const double part = rope.parameters.number("partial_rotary_factor", 1);
  MOESAIC_VALIDATE(part == 1, "{}: 'partial_rotary_factor' is {} (whole heads are rotated); set it to 1",
                   rope.parameters.origin(), part);
  return {.theta = rope.theta};
}

AttentionSpec attention_spec(const HfConfig& config, const ModelSpec& model) {
  refuse_unsupported_attention(config);
  AttentionSpec spec = grouped_query_attention(config, model);
  spec.head_norm = true;
  return spec;
}

/// Width 0 when the config has no experts.
MoeSpec moe_spec(const HfConfig& config, const ModelOverrides& overrides, const ModelSpec& model) {
  const std::int64_t experts = config.either("num_experts", "num_local_experts");
  if (experts == 0) return {};
  checked_size(config, "num_experts", experts);
  MoeSpec spec{.hidden = model.hidden, .width = size(config, "moe_intermediate_size")};
  spec.experts = cut(config, "experts", experts, overrides.experts);
  spec.top_k = top_k(config, spec.experts);
  spec.renormalise = config.flag("norm_topk_prob", false);
  return spec;
}

/// Which of `layers` blocks are sparse.
std::vector<bool> sparse_blocks(const HfConfig& config, const ModelOverrides& overrides, std::int64_t layers) {
  const std::int64_t step = checked_size(config, "decoder_sparse_step", config.integer("decoder_sparse_step", 1));
  const std::vector<std::int64_t> dense = config.integers("mlp_only_layers", {});
  const bool no_experts = config.either("num_experts", "num_local_experts") == 0;
  check_dense_layers(overrides, layers);
  MOESAIC_VALIDATE(!no_experts || overrides.dense_layers < 0 || overrides.dense_layers == layers,
                   "model.dense_layers is {} of {} layers, but {} has no experts (the others would need them); leave "
                   "it out",
                   overrides.dense_layers, layers, config.origin());
  std::vector<bool> sparse;
  for (std::int64_t i = 0; i < layers; ++i) {
    const bool listed = std::find(dense.begin(), dense.end(), i) != dense.end();
    const bool configured = !listed && !no_experts && (i + 1) % step == 0;
    sparse.push_back(overrides.dense_layers < 0 ? configured : i >= overrides.dense_layers);
  }
  return sparse;
}

std::vector<BlockSpec> block_specs(const HfConfig& config, const ModelOverrides& overrides, const ModelSpec& model) {
  const AttentionSpec attention = attention_spec(config, model);
  const MoeSpec moe = moe_spec(config, overrides, model);
  std::vector<BlockSpec> blocks;
  for (const bool sparse : sparse_blocks(config, overrides, layers(config, overrides))) {
    BlockSpec block;
    block.attention = attention;
    if (sparse) {
      block.moe = moe;
    } else {
      block.dense_width = size(config, "intermediate_size");
    }
    blocks.push_back(block);
  }
  return blocks;
}

/// `ours` and `theirs`: the block's prefix in our names and in the Hugging Face file.
void add_block(Pieces& pieces, const BlockSpec& block, std::int64_t hidden, std::size_t index) {
  const std::string ours = fmt::format("blocks/{}/", index), theirs = fmt::format("model.layers.{}.", index);
  pieces.whole(ours + "attention_norm", theirs + "input_layernorm.weight", {hidden});
  add_grouped_query_attention(pieces, block.attention, ours + "attention", theirs + "self_attn");
  pieces.whole(ours + "feed_forward_norm", theirs + "post_attention_layernorm.weight", {hidden});
  if (block.sparse()) {
    pieces.whole(ours + "router", theirs + "mlp.gate.weight", {block.moe.experts, hidden});
    add_experts(pieces, block.moe, ours + "experts", theirs + "mlp.experts");
  } else {
    add_swiglu(pieces, hidden, block.dense_width, ours + "feed_forward", theirs + "mlp");
  }
}

/// Reads both the present spelling (num_local_experts, rope_parameters) and the hub's older one (num_experts, rope_theta
/// with rope_scaling). InputError for what is not built and for sizes that do not fit together.
ModelSpec spec(const HfConfig& config, const ModelOverrides& overrides) {
  refuse_other_activations(config);
  ModelSpec spec = model(config, overrides, "qwen3_moe");
  spec.auxiliary_coefficient = config.number("router_aux_loss_coef", 0.001);
  spec.rope = rope_spec(config);
  spec.blocks = block_specs(config, overrides, spec);
  return spec;
}

/// q, k and v are rows of attention/query_key_value; gate and up of expert e are rows of experts/gate_up[e].
std::vector<HfPiece> pieces(const ModelSpec& spec) {
  return model_pieces(spec, [&](Pieces& pieces, std::size_t i) { add_block(pieces, spec.blocks[i], spec.hidden, i); });
}

}  // namespace

ModelFamily qwen3_moe() { return {{"qwen3_moe"}, spec, pieces}; }

}  // namespace moesaic::families
