#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <string>

#include "moesaic/base/contract.hpp"
#include "moesaic/models/family.hpp"
#include "support/golden.hpp"

namespace moesaic {
namespace {

/// A config in the hub's spelling, with the value of `key` replaced or added.
std::string with(const std::string& key, const std::string& value) {
  std::map<std::string, std::string> members{
      {"model_type", R"("kimi_k2")"},
      {"hidden_size", "64"},
      {"vocab_size", "256"},
      {"max_position_embeddings", "512"},
      {"num_hidden_layers", "4"},
      {"num_attention_heads", "4"},
      {"num_key_value_heads", "4"},
      {"q_lora_rank", "48"},
      {"kv_lora_rank", "32"},
      {"qk_nope_head_dim", "16"},
      {"qk_rope_head_dim", "8"},
      {"v_head_dim", "12"},
      {"intermediate_size", "96"},
      {"moe_intermediate_size", "24"},
      {"n_routed_experts", "8"},
      {"num_experts_per_tok", "2"},
      {"n_shared_experts", "2"},
      {"n_group", "4"},
      {"topk_group", "2"},
      {"norm_topk_prob", "true"},
      {"first_k_dense_replace", "1"},
      {"routed_scaling_factor", "2.5"},
      {"scoring_func", R"("sigmoid")"},
      {"topk_method", R"("noaux_tc")"},
      {"moe_layer_freq", "1"},
      {"rope_theta", "10000.0"},
      {"rope_scaling", R"({"type": "yarn", "factor": 4, "original_max_position_embeddings": 128, "mscale": 1.0,
                           "mscale_all_dim": 1.0, "beta_fast": 32, "beta_slow": 1})"}};
  members[key] = value;
  std::string text = "{";
  for (const auto& [name, member] : members) text += (text == "{" ? "\"" : ", \"") + name + "\": " + member;
  return text + "}";
}

std::string hub() { return with("rms_norm_eps", "1e-6"); }

ModelSpec read(const std::string& text, const ModelOverrides& overrides = {}) {
  return model_spec(HfConfig::parse(text, "config.json"), overrides);
}

std::string refusal(const std::string& text, const ModelOverrides& overrides = {}) {
  try {
    read(text, overrides);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

std::string sparseness(const ModelSpec& spec) {
  std::string text;
  for (const BlockSpec& block : spec.blocks) text += block.sparse() ? 's' : 'd';
  return text;
}

TEST(DeepseekV3, ReadsTheHubsSpelling) {
  const ModelSpec spec = read(hub());
  EXPECT_EQ(spec.family, "kimi_k2");
  EXPECT_EQ(sparseness(spec), "dsss");
  EXPECT_EQ(spec.blocks[0].dense_width, 96);
  EXPECT_EQ(spec.rope.theta, 10000);
  ASSERT_TRUE(spec.rope.yarn.has_value());
  EXPECT_EQ(spec.rope.yarn->original_positions, 128);
  ASSERT_TRUE(spec.blocks[1].latent.has_value());
  const LatentAttentionSpec& attention = *spec.blocks[1].latent;
  EXPECT_EQ(attention.heads, 4);
  EXPECT_EQ(attention.query_rank, 48);
  EXPECT_EQ(attention.key_value_rank, 32);
  EXPECT_EQ(attention.query_width(), 24);
  EXPECT_EQ(attention.value_width, 12);
  EXPECT_EQ(attention.pairs, RotaryPairs::interleaved);
  const double mscale = 0.1 * std::log(4.0) + 1;
  EXPECT_DOUBLE_EQ(attention.scale, mscale * mscale / std::sqrt(24.0));
  const MoeSpec& moe = spec.blocks[1].moe;
  EXPECT_EQ(moe.experts, 8);
  EXPECT_EQ(moe.top_k, 2);
  EXPECT_EQ(moe.scores, RouterScores::sigmoid);
  EXPECT_EQ(moe.groups, 4);
  EXPECT_EQ(moe.top_groups, 2);
  EXPECT_EQ(moe.scale, 2.5);
  EXPECT_EQ(moe.shared_width, 48);
  EXPECT_TRUE(moe.biased());
}

TEST(DeepseekV3, ReadsThePresentSpelling) {
  const ModelSpec spec = model_spec(HfConfig::load(GoldenCase("deepseek_v3").config()));
  EXPECT_EQ(spec.family, "deepseek_v3");
  EXPECT_EQ(sparseness(spec), "dss");
  EXPECT_EQ(spec.rope.yarn->factor, 4);
  EXPECT_EQ(spec.blocks[1].moe.groups, 4);
}

TEST(DeepseekV3, WithoutCompressionOrScaling) {
  EXPECT_EQ(read(with("q_lora_rank", "null")).blocks[0].latent->query_rank, 0);
  const ModelSpec plain = read(with("rope_scaling", "null"));
  EXPECT_FALSE(plain.rope.yarn.has_value());
  EXPECT_DOUBLE_EQ(plain.blocks[0].latent->scale, 1 / std::sqrt(24.0));
  EXPECT_EQ(read(with("n_shared_experts", "0")).blocks[1].moe.shared_width, 0);
  EXPECT_EQ(read(with("rope_interleave", "false")).blocks[0].latent->pairs, RotaryPairs::halves);
}

TEST(DeepseekV3, MultiTokenPredictionIsNoPartOfTheModel) {
  const ModelSpec plain = read(hub()), announced = read(with("num_nextn_predict_layers", "1"));
  EXPECT_EQ(plain.prediction_depths, 0);
  EXPECT_EQ(announced.prediction_depths, 1);
  EXPECT_EQ(announced.total_parameters(), plain.total_parameters());
  EXPECT_EQ(hf_pieces(announced).size(), hf_pieces(plain).size());
}

TEST(DeepseekV3, SlicesKeepLeadingDenseBlocksAndGroups) {
  EXPECT_EQ(sparseness(read(hub(), {.layers = 2})), "ds");
  EXPECT_EQ(sparseness(read(hub(), {.dense_layers = 3})), "ddds");
  EXPECT_EQ(sparseness(read(hub(), {.dense_layers = 0})), "ssss");
  EXPECT_EQ(read(hub(), {.experts = 4}).blocks[1].moe.groups, 4);
}

void expect_refused(const std::string& key, const std::string& value, const std::string& figure) {
  const std::string message = refusal(with(key, value));
  EXPECT_NE(message.find("config.json"), std::string::npos) << key << ": " << message;
  EXPECT_NE(message.find(key), std::string::npos) << key << ": " << message;
  EXPECT_NE(message.find(figure), std::string::npos) << key << ": " << message;
}

TEST(DeepseekV3, RefusesWhatIsNotBuilt) {
  expect_refused("attention_bias", "true", "true");
  expect_refused("scoring_func", R"("softmax")", "softmax");
  expect_refused("topk_method", R"("group_limited_greedy")", "group_limited_greedy");
  expect_refused("moe_layer_freq", "2", "2");
  expect_refused("hidden_act", R"("gelu")", "gelu");
  expect_refused("num_key_value_heads", "2", "2");
}

TEST(DeepseekV3, RefusesSizesThatDoNotFitTogether) {
  expect_refused("n_group", "3", "8");
  expect_refused("topk_group", "5", "5");
  expect_refused("num_experts_per_tok", "5", "4");
  expect_refused("qk_rope_head_dim", "7", "7");
  expect_refused("first_k_dense_replace", "-1", "-1");
  EXPECT_NE(refusal(hub(), {.experts = 6}).find("model.experts is 6"), std::string::npos);
}

/// Published: 671B and 37B, 1.03T and 32B; "active" leaves out the input embedding.
TEST(DeepseekV3, CountsTheParametersOfThePublicModels) {
  const auto public_model = [](const std::string& name) {
    return model_spec(HfConfig::load(MOESAIC_SOURCE_DIR "/inputs/models/" + name + ".json"));
  };
  const ModelSpec v3 = public_model("deepseek-v3"), k2 = public_model("kimi-k2");
  EXPECT_NEAR(static_cast<double>(v3.total_parameters()), 671e9, 0.02 * 671e9);
  EXPECT_NEAR(static_cast<double>(v3.active_parameters()), 37e9, 0.02 * 37e9);
  EXPECT_NEAR(static_cast<double>(k2.total_parameters()), 1.03e12, 0.02 * 1.03e12);
  EXPECT_NEAR(static_cast<double>(k2.active_parameters()), 32e9, 0.02 * 32e9);
}

}  // namespace
}  // namespace moesaic
