// GLM-4.5 (arXiv 2508.06471): grouped-query attention with biases and a part of each head rotated, leading dense blocks, a
// sigmoid router with correction biases, a shared expert.
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
  spec.bias = config.flag("attention_bias", false);
  spec.head_norm = config.flag("use_qk_norm", false);
  const double part = config.number("partial_rotary_factor", 0.5);  // Transformers 5 has it among rope_parameters, too
  spec.rotary_width = static_cast<std::int64_t>(config.rope().parameters.number("partial_rotary_factor", part) *
                                                static_cast<double>(spec.width));
  return spec;
}

MoeSpec moe_spec(const HfConfig& config, const ModelOverrides& overrides, const ModelSpec& model) {
  MOESAIC_VALIDATE(config.integer("n_group", 1) == 1,
                   "{}: 'n_group' is {} (this family's router chooses among all experts); only 1 is built",
                   config.origin(), config.integer("n_group", 1));
  MoeSpec spec{.hidden = model.hidden, .width = size(config, "moe_intermediate_size")};
  spec.experts = cut(config, "experts", config.either("n_routed_experts", "num_local_experts"), overrides.experts);
  spec.top_k = top_k(config, spec.experts);
  spec.renormalise = config.flag("norm_topk_prob", true);
  spec.scores = RouterScores::sigmoid;
  spec.selection_bias = true;
  spec.scale = config.number("routed_scaling_factor", 1);
  spec.shared_width = config.integer("n_shared_experts", 1) * spec.width;
  return spec;
}

ModelSpec spec(const HfConfig& config, const ModelOverrides& overrides) {
  refuse_other_activations(config);
  ModelSpec spec = model(config, overrides, "glm4_moe");
  spec.rope = rope(config);
  spec.prediction_depths = config.integer("num_nextn_predict_layers", 0);  // left out of training, as a run says
  const std::int64_t dense = config.integer("first_k_dense_replace", 1);
  for (const bool sparse : sparse_after(dense, layers(config, overrides), overrides)) {
    BlockSpec block;
    block.attention = attention_spec(config, spec);
    if (sparse)
      block.moe = moe_spec(config, overrides, spec);
    else
      block.dense_width = size(config, "intermediate_size");
    spec.blocks.push_back(block);
  }
  return spec;
}

/// `layer` counts the MoE layers.
void add_moe(Pieces& pieces, const MoeSpec& spec, std::int64_t layer, const std::string& ours,
             const std::string& theirs) {
  pieces.whole(ours + "/router", theirs + ".gate.weight", {spec.experts, spec.hidden});
  pieces.whole(selection_bias_name(layer), theirs + ".gate.e_score_correction_bias", {spec.experts});
  if (spec.shared_width > 0)
    add_swiglu(pieces, spec.hidden, spec.shared_width, ours + "/shared", theirs + ".shared_experts");
  add_experts(pieces, spec, ours + "/experts", theirs + ".experts");
}

std::vector<HfPiece> pieces(const ModelSpec& spec) {
  std::int64_t moe_layers = 0;
  return model_pieces(spec, [&](Pieces& pieces, std::size_t i) {
    const BlockSpec& block = spec.blocks[i];
    const std::string ours = fmt::format("blocks/{}", i), theirs = fmt::format("model.layers.{}", i);
    pieces.whole(ours + "/attention_norm", theirs + ".input_layernorm.weight", {spec.hidden});
    add_grouped_query_attention(pieces, block.attention, ours + "/attention", theirs + ".self_attn");
    pieces.whole(ours + "/feed_forward_norm", theirs + ".post_attention_layernorm.weight", {spec.hidden});
    if (block.sparse())
      add_moe(pieces, block.moe, moe_layers++, ours, theirs + ".mlp");
    else
      add_swiglu(pieces, spec.hidden, block.dense_width, ours + "/feed_forward", theirs + ".mlp");
  });
}

}  // namespace

ModelFamily glm4_moe() { return {{"glm4_moe"}, spec, pieces}; }

}  // namespace moesaic::families
