// Mixtral (Jiang et al. 2024, arXiv 2401.04088): grouped-query attention and a softmax router, every block sparse.
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
  if (config.has("sliding_window")) spec.window = size(config, "sliding_window");
  return spec;
}

MoeSpec moe_spec(const HfConfig& config, const ModelOverrides& overrides, const ModelSpec& model) {
  MOESAIC_VALIDATE(config.number("router_jitter_noise", 0) == 0,
                   "{}: 'router_jitter_noise' is {} (noise on the router's input is not built); set it to 0",
                   config.origin(), config.number("router_jitter_noise"));
  return experts_everywhere(config, overrides, model);
}

/// InputError for what is not built and for sizes that do not fit together.
ModelSpec spec(const HfConfig& config, const ModelOverrides& overrides) {
  refuse_other_activations(config);
  ModelSpec spec = model(config, overrides, "mixtral");
  spec.norm_eps = config.number("rms_norm_eps", 1e-5);
  spec.auxiliary_coefficient = config.number("router_aux_loss_coef", 0.001);
  spec.rope = rope(config);
  BlockSpec block;
  block.attention = attention_spec(config, spec);
  block.moe = moe_spec(config, overrides, spec);
  spec.blocks.assign(static_cast<std::size_t>(layers(config, overrides)), block);
  return spec;
}

/// Of expert e, w1 is gate, w3 is up and w2 is down.
std::vector<HfPiece> pieces(const ModelSpec& spec) {
  return model_pieces(spec, [&](Pieces& pieces, std::size_t i) {
    const BlockSpec& block = spec.blocks[i];
    const std::string ours = fmt::format("blocks/{}", i), theirs = fmt::format("model.layers.{}", i);
    pieces.whole(ours + "/attention_norm", theirs + ".input_layernorm.weight", {spec.hidden});
    add_grouped_query_attention(pieces, block.attention, ours + "/attention", theirs + ".self_attn");
    pieces.whole(ours + "/feed_forward_norm", theirs + ".post_attention_layernorm.weight", {spec.hidden});
    pieces.whole(ours + "/router", theirs + ".block_sparse_moe.gate.weight", {block.moe.experts, spec.hidden});
    add_experts(pieces, block.moe, ours + "/experts", theirs + ".block_sparse_moe.experts",
                {.gate = "w1", .up = "w3", .down = "w2"});
  });
}

}  // namespace

ModelFamily mixtral() { return {{"mixtral"}, spec, pieces}; }

}  // namespace moesaic::families
