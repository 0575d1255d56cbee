#include "moesaic/models/families/qwen3_moe.hpp"

#include <algorithm>
#include <string_view>

#include "moesaic/base/contract.hpp"

namespace moesaic::qwen3_moe {

namespace {

std::int64_t checked_size(const HfConfig& config, std::string_view key, std::int64_t value) {
  constexpr std::int64_t most = std::int64_t{1} << 24;  // of any one extent; far beyond every model, short of overflow
  MOESAIC_VALIDATE(0 < value && value <= most, "{}: '{}' is {} (it is a size); give an integer from 1 to {}",
                   config.origin(), key, value, most);
  return value;
}

std::int64_t size(const HfConfig& config, std::string_view key) {
  return checked_size(config, key, config.integer(key));
}

/// What the config says, or the smaller number that the deck asks for instead.
std::int64_t cut(const HfConfig& config, std::string_view what, std::int64_t value, std::int64_t wanted) {
  if (wanted == 0) return value;
  MOESAIC_VALIDATE(0 < wanted && wanted <= value,
                   "model.{} is {}, but {} has {} (a slice takes the first of them); give a number from 1 to {}", what,
                   wanted, config.origin(), value, value);
  return wanted;
}

void refuse_unsupported_attention(const HfConfig& config) {
  MOESAIC_VALIDATE(!config.flag("attention_bias", false),
                   "{}: 'attention_bias' is true (projections with biases are not built); use a model without them",
                   config.origin());
  MOESAIC_VALIDATE(config.number("attention_dropout", 0) == 0,
                   "{}: 'attention_dropout' is {} (dropout is not built); set it to 0", config.origin(),
                   config.number("attention_dropout"));
  MOESAIC_VALIDATE(!config.flag("use_sliding_window", false),
                   "{}: 'use_sliding_window' is true (windowed attention is not built); set it to false, which attends "
                   "to the whole sequence",
                   config.origin());
  for (const std::string& type : config.texts("layer_types", {})) {
    MOESAIC_VALIDATE(type == "full_attention",
                     "{}: 'layer_types' holds '{}' (only full_attention is built); use a model without it",
                     config.origin(), type);
  }
}

void refuse_unsupported_activation(const HfConfig& config) {
  const std::string activation = config.text("hidden_act", "silu");
  MOESAIC_VALIDATE(activation == "silu", "{}: 'hidden_act' is '{}' (only silu is built); use a model with silu",
                   config.origin(), activation);
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
  return {rope.theta};
}

std::int64_t head_width(const HfConfig& config, std::int64_t hidden, std::int64_t heads) {
  MOESAIC_VALIDATE(config.has("head_dim") || hidden % heads == 0,
                   "{}: 'hidden_size' {} does not divide by 'num_attention_heads' {} (that is the width of a head "
                   "without 'head_dim'); give 'head_dim'",
                   config.origin(), hidden, heads);
  const std::int64_t width = checked_size(config, "head_dim", config.integer("head_dim", hidden / heads));
  MOESAIC_VALIDATE(width % 2 == 0, "{}: 'head_dim' is {} (the rotary embedding turns pairs); give an even number",
                   config.origin(), width);
  return width;
}

AttentionSpec attention_spec(const HfConfig& config, const ModelSpec& model) {
  refuse_unsupported_attention(config);
  AttentionSpec spec{.hidden = model.hidden, .head_norm = true, .norm_eps = model.norm_eps};
  spec.heads = size(config, "num_attention_heads");
  spec.key_heads = size(config, "num_key_value_heads");
  MOESAIC_VALIDATE(spec.heads % spec.key_heads == 0,
                   "{}: 'num_attention_heads' {} does not divide by 'num_key_value_heads' {} (each key head serves "
                   "equally many queries); correct one of them",
                   config.origin(), spec.heads, spec.key_heads);
  spec.width = head_width(config, spec.hidden, spec.heads);
  return spec;
}

/// Width 0 when the config has no experts.
MoeSpec moe_spec(const HfConfig& config, const ModelOverrides& overrides, const ModelSpec& model) {
  const std::int64_t experts = config.either("num_experts", "num_local_experts");
  if (experts == 0) return {};
  checked_size(config, "num_experts", experts);
  MoeSpec spec{.hidden = model.hidden, .width = size(config, "moe_intermediate_size")};
  spec.experts = cut(config, "experts", experts, overrides.experts);
  spec.top_k = size(config, "num_experts_per_tok");
  MOESAIC_VALIDATE(spec.top_k <= spec.experts,
                   "{}: 'num_experts_per_tok' is {}, but there are {} experts (a token goes to different ones); use "
                   "at least {} experts, or at most {} a token",
                   config.origin(), spec.top_k, spec.experts, spec.top_k, spec.experts);
  spec.renormalise = config.flag("norm_topk_prob", false);
  return spec;
}

/// Which of `layers` blocks are sparse.
std::vector<bool> sparse_blocks(const HfConfig& config, const ModelOverrides& overrides, std::int64_t layers) {
  const std::int64_t step = checked_size(config, "decoder_sparse_step", config.integer("decoder_sparse_step", 1));
  const std::vector<std::int64_t> dense = config.integers("mlp_only_layers", {});
  const bool no_experts = config.either("num_experts", "num_local_experts") == 0;
  MOESAIC_VALIDATE(
      overrides.dense_layers <= layers,
      "model.dense_layers is {}, but the model has {} layers (it counts the first of them); give at most {}",
      overrides.dense_layers, layers, layers);
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
  constexpr std::int64_t most_layers = 10000;
  const std::int64_t configured = size(config, "num_hidden_layers");
  MOESAIC_VALIDATE(configured <= most_layers, "{}: 'num_hidden_layers' is {} (no model has so many); give at most {}",
                   config.origin(), configured, most_layers);
  const std::int64_t layers = cut(config, "layers", configured, overrides.layers);
  const AttentionSpec attention = attention_spec(config, model);
  const MoeSpec moe = moe_spec(config, overrides, model);
  std::vector<BlockSpec> blocks;
  for (const bool sparse : sparse_blocks(config, overrides, layers)) {
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

}  // namespace

ModelSpec spec(const HfConfig& config, const ModelOverrides& overrides) {
  refuse_unsupported_activation(config);
  ModelSpec spec;
  spec.family = "qwen3_moe";
  spec.hidden = size(config, "hidden_size");
  spec.vocabulary = cut(config, "vocabulary", size(config, "vocab_size"), overrides.vocabulary);
  spec.max_positions = size(config, "max_position_embeddings");
  spec.norm_eps = config.number("rms_norm_eps", 1e-6);
  spec.initializer_range = config.number("initializer_range", 0.02);
  spec.tied_head = config.flag("tie_word_embeddings", false);
  spec.auxiliary_coefficient = config.number("router_aux_loss_coef", 0.001);
  spec.rope = rope_spec(config);
  spec.blocks = block_specs(config, overrides, spec);
  return spec;
}

}  // namespace moesaic::qwen3_moe
