// GPT-OSS (OpenAI 2025, arXiv 2508.10925): grouped-query attention with biases and sinks, of which every other block sees a
// window; experts with biases and a clamped SwiGLU; YaRN.
#include <fmt/format.h>

#include "moesaic/base/contract.hpp"
#include "moesaic/models/config_reading.hpp"
#include "moesaic/models/family.hpp"
#include "moesaic/models/pieces.hpp"

namespace moesaic::families {

namespace {

using namespace config_reading;

AttentionSpec attention_spec(const HfConfig& config, const ModelSpec& model) {
  refuse_dropout(config);
  AttentionSpec spec = grouped_query_attention(config, model);
  spec.bias = spec.output_bias = config.flag("attention_bias", true);
  spec.sinks = true;
  return spec;
}

MoeSpec moe_spec(const HfConfig& config, const ModelOverrides& overrides, const ModelSpec& model) {
  MoeSpec spec = experts_everywhere(config, overrides, model);
  spec.bias = true;
  spec.swiglu = {.alpha = 1.702, .limit = config.number("swiglu_limit", 7), .up_offset = 1};
  MOESAIC_VALIDATE(spec.swiglu.limit > 0, "{}: 'swiglu_limit' is {} (gates are cut there); give a positive number",
                   config.origin(), spec.swiglu.limit);
  return spec;
}

/// Of each layer; 0: it sees the whole sequence. Without layer_types every other layer has one, from the first.
std::vector<std::int64_t> windows(const HfConfig& config, std::int64_t layers) {
  std::vector<std::string> alternating;
  for (std::int64_t i = 0; i < layers; ++i)
    alternating.emplace_back(i % 2 == 0 ? "sliding_attention" : "full_attention");
  std::vector<std::int64_t> windows;
  for (const std::string& type : layer_types(config, layers, std::move(alternating))) {
    MOESAIC_VALIDATE(type == "sliding_attention" || type == "full_attention",
                     "{}: 'layer_types' holds '{}' (only sliding_attention and full_attention are built); use a model "
                     "without it",
                     config.origin(), type);
    windows.push_back(type == "full_attention" ? 0 : size(config, "sliding_window"));
  }
  return windows;
}

/// gate_up_proj [experts, hidden, 2 * width], gate and up alternating, and down_proj [experts, width, hidden].
void add_fused_experts(Pieces& pieces, const MoeSpec& spec, const std::string& ours, const std::string& theirs) {
  const std::int64_t experts = spec.experts, width = spec.width, hidden = spec.hidden;
  pieces.add({.tensor = theirs + ".gate_up_proj",
              .parameter = ours + "/gate_up",
              .shape = {experts, hidden, width, 2},
              .strides = {2 * width * hidden, 1, hidden, width * hidden},
              .whole = {experts, hidden, 2 * width}});
  pieces.add({.tensor = theirs + ".down_proj",
              .parameter = ours + "/down",
              .shape = {experts, width, hidden},
              .strides = {hidden * width, 1, width}});
  pieces.add({.tensor = theirs + ".gate_up_proj_bias",
              .parameter = ours + "/gate_up_bias",
              .shape = {experts, width, 2},
              .strides = {2 * width, 1, width},
              .whole = {experts, 2 * width}});
  pieces.whole(ours + "/down_bias", theirs + ".down_proj_bias", {experts, hidden});
}

void add_block(Pieces& pieces, const BlockSpec& block, std::int64_t hidden, std::size_t index) {
  const std::string ours = fmt::format("blocks/{}", index), theirs = fmt::format("model.layers.{}", index);
  pieces.whole(ours + "/attention_norm", theirs + ".input_layernorm.weight", {hidden});
  add_grouped_query_attention(pieces, block.attention, ours + "/attention", theirs + ".self_attn");
  pieces.whole(ours + "/feed_forward_norm", theirs + ".post_attention_layernorm.weight", {hidden});
  pieces.whole(ours + "/router", theirs + ".mlp.router.weight", {block.moe.experts, hidden});
  pieces.whole(ours + "/router_bias", theirs + ".mlp.router.bias", {block.moe.experts});
  add_fused_experts(pieces, block.moe, ours + "/experts", theirs + ".mlp.experts");
}

/// Top-k before the softmax is a softmax over all, renormalised over the chosen ones. InputError for what is not built and
/// for sizes that do not fit together.
ModelSpec spec(const HfConfig& config, const ModelOverrides& overrides) {
  refuse_other_activations(config);
  ModelSpec spec = model(config, overrides, "gpt_oss");
  spec.counts_embedding = false;
  spec.norm_eps = config.number("rms_norm_eps", 1e-5);
  spec.auxiliary_coefficient = config.number("router_aux_loss_coef", 0.001);
  spec.rope = rope(config);
  BlockSpec block;
  block.attention = attention_spec(config, spec);
  block.moe = moe_spec(config, overrides, spec);
  for (const std::int64_t window : windows(config, layers(config, overrides))) {
    block.attention.window = window;
    spec.blocks.push_back(block);
  }
  return spec;
}

/// The experts of a block are one tensor a projection, input-major, the columns of gate and up alternating.
std::vector<HfPiece> pieces(const ModelSpec& spec) {
  return model_pieces(spec, [&](Pieces& pieces, std::size_t i) { add_block(pieces, spec.blocks[i], spec.hidden, i); });
}

}  // namespace

ModelFamily gpt_oss() { return {{"gpt_oss"}, spec, pieces}; }

}  // namespace moesaic::families
