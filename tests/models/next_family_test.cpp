// How a family is added (docs/families.md): GLM-4.5 (arXiv 2508.06471) out of what the others are made of, as a file of
// src/models/families would hold it. Grouped-query attention with biases and half of each head rotated, leading dense blocks,
// a sigmoid router with correction biases, a shared expert.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "../../src/models/families/config_reading.hpp"
#include "../../src/models/families/pieces.hpp"
#include "support/local_model.hpp"

namespace moesaic {

namespace glm4_moe {

namespace {

using namespace config_reading;

AttentionSpec attention_spec(const HfConfig& config, const ModelSpec& model) {
  refuse_dropout(config);
  AttentionSpec spec = grouped_query_attention(config, model);
  spec.bias = config.flag("attention_bias", false);
  spec.head_norm = config.flag("use_qk_norm", false);
  spec.rotary_width =
      static_cast<std::int64_t>(config.number("partial_rotary_factor", 0.5) * static_cast<double>(spec.width));
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

}  // namespace glm4_moe

namespace {

/// The spelling of the hub's GLM-4.5-Air, smaller.
constexpr std::string_view small_config =
    R"({"model_type": "glm4_moe", "hidden_size": 32, "vocab_size": 64, "max_position_embeddings": 128,
    "num_hidden_layers": 3, "first_k_dense_replace": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "attention_bias": true, "use_qk_norm": true, "partial_rotary_factor": 0.5,
    "intermediate_size": 48, "moe_intermediate_size": 16, "n_routed_experts": 8, "n_shared_experts": 1,
    "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "norm_topk_prob": true, "routed_scaling_factor": 2.0,
    "rope_theta": 10000, "rope_scaling": null, "rms_norm_eps": 1e-05, "tie_word_embeddings": false})";

ModelSpec small_glm(std::string text = std::string(small_config)) {
  return glm4_moe::spec(HfConfig::parse(text, "config.json"), {});
}

TEST(NextFamily, RefusesWhatIsNotBuilt) {
  std::string groups(small_config);
  groups.replace(groups.find("\"n_group\": 1"), 12, "\"n_group\": 2");
  try {
    small_glm(groups);
    FAIL() << "groups were ignored";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("'n_group' is 2"), std::string::npos) << error.what();
  }
}

TEST(NextFamily, ItsTensorsCoverEveryParameterOnce) {
  const ModelSpec spec = small_glm();
  const LocalModel local(spec, DType::f64, 16);
  std::map<std::string, std::vector<int>> covered;
  for (const HfPiece& piece : glm4_moe::pieces(spec)) {
    std::vector<int>& places = covered[piece.parameter];
    places.resize(static_cast<std::size_t>(local.value(piece.parameter).size()));
    for (std::int64_t i = 0; i < piece.shape.size(); ++i) ++places[static_cast<std::size_t>(place_in(piece, i))];
  }
  for (const auto& [name, places] : covered)
    EXPECT_EQ(std::count(places.begin(), places.end(), 1), std::ssize(places)) << name;
  EXPECT_EQ(covered.size(), local.names().size() + 2) << "and two correction biases";
}

TEST(NextFamily, TrainsOneStep) {
  LocalModel local(small_glm(), DType::f64, 16);
  local.randomise(1, 0.5);
  LocalBatch batch(2, {1, 4, 9, 0, 10, 4, 4, 7, 2, 5}, {4, 9, 0, 10, 3, 4, 60, 2, 5, 8});
  LocalModel::Pass pass = local.forward(*batch);
  local.backward(*batch, pass);
  for (const std::string& name : local.names()) {
    double squares = 0;
    for (double value : elements(local.gradient(name))) squares += value * value;
    EXPECT_GT(squares, 0) << name;
  }
}

}  // namespace
}  // namespace moesaic
