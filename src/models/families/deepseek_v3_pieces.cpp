#include <fmt/format.h>

#include "moesaic/models/families/deepseek_v3.hpp"
#include "pieces.hpp"

namespace moesaic::deepseek_v3 {

namespace {

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

}  // namespace

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

}  // namespace moesaic::deepseek_v3
