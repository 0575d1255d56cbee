// DeepSeek-V3 (arXiv 2412.19437) and Kimi K2 (arXiv 2507.20534): multi-head latent attention, leading dense blocks, a
// sigmoid router with correction biases and groups of experts, shared experts.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "moesaic/base/contract.hpp"
#include "moesaic/models/config_reading.hpp"
#include "moesaic/models/family.hpp"
#include "moesaic/models/pieces.hpp"

namespace moesaic::families {

namespace {

using namespace config_reading;

void check_heads(const HfConfig& config, const LatentAttentionSpec& spec) {
  const std::int64_t key_heads = config.integer("num_key_value_heads", spec.heads);
  MOESAIC_VALIDATE(key_heads == spec.heads,
                   "{}: 'num_key_value_heads' is {}, but 'num_attention_heads' is {} (latent attention makes a key for "
                   "each head); give the same number",
                   config.origin(), key_heads, spec.heads);
  MOESAIC_VALIDATE(spec.rotary_width % 2 == 0,
                   "{}: 'qk_rope_head_dim' is {} (the rotary embedding turns pairs); give an even number",
                   config.origin(), spec.rotary_width);
}

/// 1 / sqrt(width) times the square of YaRN's factor, which stands for both queries and keys.
double softmax_scale(const LatentAttentionSpec& spec, const RopeSpec& rope) {
  const double scale = 1 / std::sqrt(static_cast<double>(spec.query_width()));
  if (!rope.yarn || rope.yarn->mscale_all_dim == 0) return scale;
  const double factor = yarn_mscale(rope.yarn->factor, rope.yarn->mscale_all_dim);
  return scale * factor * factor;
}

LatentAttentionSpec attention_spec(const HfConfig& config, const ModelSpec& model) {
  refuse_attention_bias(config);
  refuse_dropout(config);
  LatentAttentionSpec spec{.hidden = model.hidden, .heads = size(config, "num_attention_heads")};
  if (config.has("q_lora_rank")) spec.query_rank = size(config, "q_lora_rank");
  spec.key_value_rank = size(config, "kv_lora_rank");
  spec.plain_width = size(config, "qk_nope_head_dim");
  spec.rotary_width = size(config, "qk_rope_head_dim");
  spec.value_width = size(config, "v_head_dim");
  spec.pairs = config.flag("rope_interleave", true) ? RotaryPairs::interleaved : RotaryPairs::halves;
  spec.norm_eps = 1e-6;  // of the norms on compressed rows, whatever rms_norm_eps says
  spec.scale = softmax_scale(spec, model.rope);
  check_heads(config, spec);
  return spec;
}

void refuse_other_routers(const HfConfig& config) {
  const std::string scores = config.text("scoring_func", "sigmoid"), method = config.text("topk_method", "noaux_tc");
  MOESAIC_VALIDATE(scores == "sigmoid" && method == "noaux_tc",
                   "{}: 'scoring_func' is '{}' and 'topk_method' is '{}' (only sigmoid with noaux_tc is built for this "
                   "family); use a model of DeepSeek-V3's kind",
                   config.origin(), scores, method);
  const std::int64_t step = config.integer("moe_layer_freq", 1);
  MOESAIC_VALIDATE(step == 1, "{}: 'moe_layer_freq' is {} (every block behind the dense ones is sparse); set it to 1",
                   config.origin(), step);
}

/// A slice of the experts has as many groups, of fewer experts each.
void read_groups(const HfConfig& config, std::int64_t configured, MoeSpec& spec) {
  const std::int64_t groups = checked_size(config, "n_group", config.integer("n_group", 8));
  const std::int64_t best =
      checked_size(config, "topk_group", config.integer("topk_group", std::min<std::int64_t>(groups, 4)));
  MOESAIC_VALIDATE(configured % groups == 0 && best <= groups,
                   "{}: 'n_group' is {} and 'topk_group' is {} for {} experts (groups are equal, and a token chooses "
                   "from the best of them); correct them",
                   config.origin(), groups, best, configured);
  MOESAIC_VALIDATE(spec.experts % groups == 0,
                   "model.experts is {}, but {} has {} groups of experts (they stay equal in a slice); give a multiple "
                   "of {}",
                   spec.experts, config.origin(), groups, groups);
  spec.groups = groups;
  spec.top_groups = best;
  const std::int64_t reachable = best * (spec.experts / groups);
  MOESAIC_VALIDATE(spec.top_k <= reachable,
                   "{}: 'num_experts_per_tok' is {}, but the best {} of {} groups hold {} experts together; use more "
                   "experts, or fewer a token",
                   config.origin(), spec.top_k, best, groups, reachable);
}

MoeSpec moe_spec(const HfConfig& config, const ModelOverrides& overrides, const ModelSpec& model) {
  refuse_other_routers(config);
  const std::int64_t experts = config.either("n_routed_experts", "num_local_experts");
  checked_size(config, "n_routed_experts", experts);
  MoeSpec spec{.hidden = model.hidden, .width = size(config, "moe_intermediate_size")};
  spec.experts = cut(config, "experts", experts, overrides.experts);
  spec.top_k = top_k(config, spec.experts);
  spec.renormalise = config.flag("norm_topk_prob", true);
  spec.scores = RouterScores::sigmoid;
  spec.scale = config.number("routed_scaling_factor", 2.5);
  spec.selection_bias = true;
  read_groups(config, experts, spec);
  const std::int64_t shared = config.integer("n_shared_experts", 1);
  if (shared != 0) spec.shared_width = checked_size(config, "n_shared_experts", shared) * spec.width;
  return spec;
}

std::vector<BlockSpec> block_specs(const HfConfig& config, const ModelOverrides& overrides, const ModelSpec& model) {
  const std::int64_t dense = config.integer("first_k_dense_replace", 3);
  MOESAIC_VALIDATE(dense >= 0, "{}: 'first_k_dense_replace' is {} (it counts the leading dense blocks); give 0 or more",
                   config.origin(), dense);
  const LatentAttentionSpec attention = attention_spec(config, model);
  const MoeSpec moe = moe_spec(config, overrides, model);
  std::vector<BlockSpec> blocks;
  for (const bool sparse : sparse_after(dense, layers(config, overrides), overrides)) {
    BlockSpec block;
    block.latent = attention;
    if (sparse) {
      block.moe = moe;
    } else {
      block.dense_width = size(config, "intermediate_size");
    }
    blocks.push_back(block);
  }
  return blocks;
}

/// One more block, of experts, behind the layers.
void add_prediction(const HfConfig& config, const ModelOverrides& overrides, ModelSpec& spec) {
  MOESAIC_VALIDATE(
      spec.prediction_depths == 1,
      "{}: 'num_nextn_predict_layers' is {}, but model.multi_token_prediction trains one depth (each is a "
      "block with weights of its own); set it to 1 in the config, or leave model.multi_token_prediction out",
      config.origin(), spec.prediction_depths);
  MOESAIC_VALIDATE(
      !spec.tied_head,
      "{}: 'tie_word_embeddings' is true, but model.multi_token_prediction needs a head of its own (a table "
      "is shared once); leave one of them out",
      config.origin());
  BlockSpec block;
  block.latent = attention_spec(config, spec);
  block.moe = moe_spec(config, overrides, spec);
  spec.blocks.push_back(block);
  spec.predicts = true;
}

void add_attention(Pieces& pieces, const LatentAttentionSpec& spec, const std::string& ours,
                   const std::string& theirs) {
  const std::int64_t queries = spec.heads * spec.query_width(), rank = spec.key_value_rank;
  const bool compressed = spec.query_rank > 0;
  pieces.parameter(ours + "/query_key_value");
  pieces.tensor(theirs + (compressed ? ".q_a_proj.weight" : ".q_proj.weight"),
                {compressed ? spec.query_rank : queries, spec.hidden});
  pieces.tensor(theirs + ".kv_a_proj_with_mqa.weight", {rank + spec.rotary_width, spec.hidden});
  pieces.whole(ours + "/key_value_norm", theirs + ".kv_a_layernorm.weight", {rank});
  pieces.whole(ours + "/key_value_up", theirs + ".kv_b_proj.weight",
               {spec.heads * (spec.plain_width + spec.value_width), rank});
  pieces.whole(ours + "/output", theirs + ".o_proj.weight", {spec.hidden, spec.heads * spec.value_width});
  if (!compressed) return;
  pieces.whole(ours + "/query_norm", theirs + ".q_a_layernorm.weight", {spec.query_rank});
  pieces.whole(ours + "/query_up", theirs + ".q_b_proj.weight", {queries, spec.query_rank});
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

/// What the depth of multi-token prediction has beside its block.
void add_prediction(Pieces& pieces, const ModelSpec& spec) {
  const std::string theirs = fmt::format("model.layers.{}", spec.layers());
  const Extents norm{spec.hidden}, table{spec.vocabulary, spec.hidden};
  pieces.whole("prediction/embedding_norm", theirs + ".enorm.weight", norm);
  pieces.whole("prediction/hidden_norm", theirs + ".hnorm.weight", norm);
  pieces.whole("prediction/projection", theirs + ".eh_proj.weight", {spec.hidden, 2 * spec.hidden});
  pieces.whole("prediction/norm", theirs + ".shared_head.norm.weight", norm);
  pieces.copy("embedding/weight", theirs + ".embed_tokens.weight", table);
  pieces.copy("head/weight", theirs + ".shared_head.head.weight", table);
}

/// Reads rope_parameters and the hub's rope_theta with rope_scaling. One depth of multi-token prediction is part of
/// the model where the overrides ask for it. InputError for what is not built and for sizes that do not fit together.
ModelSpec spec(const HfConfig& config, const ModelOverrides& overrides) {
  refuse_other_activations(config);
  ModelSpec spec = model(config, overrides, config.model_type());
  spec.counts_embedding = false;
  spec.auxiliary_coefficient = config.number("aux_loss_alpha", 0.0001);
  spec.rope = rope(config);
  spec.blocks = block_specs(config, overrides, spec);
  spec.prediction_depths = config.integer("num_nextn_predict_layers", 0);
  if (overrides.prediction) add_prediction(config, overrides, spec);
  return spec;
}

/// q_a_proj (or q_proj) and kv_a_proj_with_mqa are rows of attention/query_key_value. e_score_correction_bias of MoE layer i
/// is a piece of the state "/router/selection_bias/i", which is no parameter. The depth of multi-token
/// prediction is the layer behind the last; there the hub has copies of embedding and head, too.
std::vector<HfPiece> pieces(const ModelSpec& spec) {
  std::int64_t moe_layers = 0;
  return model_pieces(spec, [&](Pieces& pieces, std::size_t i) {
    const BlockSpec& block = spec.blocks[i];
    const std::string ours = fmt::format("blocks/{}", i), theirs = fmt::format("model.layers.{}", i);
    pieces.whole(ours + "/attention_norm", theirs + ".input_layernorm.weight", {spec.hidden});
    add_attention(pieces, *block.latent, ours + "/attention", theirs + ".self_attn");
    pieces.whole(ours + "/feed_forward_norm", theirs + ".post_attention_layernorm.weight", {spec.hidden});
    if (block.sparse()) {
      add_moe(pieces, block.moe, moe_layers++, ours, theirs + ".mlp");
    } else {
      add_swiglu(pieces, spec.hidden, block.dense_width, ours + "/feed_forward", theirs + ".mlp");
    }
    if (static_cast<std::int64_t>(i) == spec.layers()) add_prediction(pieces, spec);
  });
}

}  // namespace

ModelFamily deepseek_v3() { return {{"deepseek_v3", "kimi_k2"}, spec, pieces}; }

}  // namespace moesaic::families
