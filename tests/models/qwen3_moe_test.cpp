#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "moesaic/base/contract.hpp"
#include "moesaic/models/family.hpp"

namespace moesaic {
namespace {

/// A config in the hub's older spelling, with `changes` (members, each with a comma before it) put in its place.
std::string older(const std::string& changes = "") {
  return R"({"model_type": "qwen3_moe", "hidden_size": 64, "vocab_size": 256, "max_position_embeddings": 512,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
    "intermediate_size": 96, "moe_intermediate_size": 24, "num_experts": 8, "num_experts_per_tok": 2,
    "norm_topk_prob": true, "rope_theta": 50000.0, "rope_scaling": null)" +
         changes + "}";
}

ModelSpec read(const std::string& text, const ModelOverrides& overrides = {}) {
  return model_spec(HfConfig::parse(text, "config.json"), overrides);
}

/// The older config with the value of `key` replaced.
std::string with(const std::string& key, const std::string& value) {
  std::string text = older();
  const std::string quoted = "\"" + key + "\": ";
  const std::size_t begin = text.find(quoted);
  if (begin == std::string::npos) return older(", " + quoted + value);
  const std::size_t from = begin + quoted.size();
  return text.replace(from, text.find_first_of(",}", from) - from, value);
}

/// What is said when the config or the overrides are refused; empty when they are not.
std::string refusal(const std::string& text, const ModelOverrides& overrides = {}) {
  try {
    read(text, overrides);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

void expect_refused(const std::string& key, const std::string& value, const std::string& figure) {
  const std::string message = refusal(with(key, value));
  EXPECT_NE(message.find("config.json"), std::string::npos) << key << ": " << message;
  EXPECT_NE(message.find(key), std::string::npos) << key << ": " << message;
  EXPECT_NE(message.find(figure), std::string::npos) << key << ": " << message;
}

std::string sparseness(const ModelSpec& spec) {
  std::string text;
  for (const BlockSpec& block : spec.blocks) text += block.sparse() ? 's' : 'd';
  return text;
}

TEST(Qwen3Moe, ReadsTheHubsOlderSpelling) {
  const ModelSpec spec = read(older());
  EXPECT_EQ(spec.family, "qwen3_moe");
  EXPECT_EQ(spec.hidden, 64);
  EXPECT_EQ(spec.vocabulary, 256);
  EXPECT_EQ(spec.max_positions, 512);
  EXPECT_EQ(spec.rope.theta, 50000);
  EXPECT_FALSE(spec.tied_head);
  ASSERT_EQ(spec.blocks.size(), 4u);
  const AttentionSpec& attention = spec.blocks[0].attention;
  EXPECT_EQ(attention.heads, 4);
  EXPECT_EQ(attention.key_heads, 2);
  EXPECT_EQ(attention.width, 32);
  EXPECT_TRUE(attention.head_norm);
  const MoeSpec& moe = spec.blocks[0].moe;
  EXPECT_EQ(moe.hidden, 64);
  EXPECT_EQ(moe.width, 24);
  EXPECT_EQ(moe.experts, 8);
  EXPECT_EQ(moe.top_k, 2);
  EXPECT_TRUE(moe.renormalise);
}

TEST(Qwen3Moe, ReadsThePresentSpelling) {
  const ModelSpec spec =
      model_spec(HfConfig::load(std::filesystem::path(MOESAIC_GOLDEN) / "qwen3_moe" / "config.json"));
  EXPECT_EQ(spec.hidden, 64);
  EXPECT_EQ(spec.rope.theta, 1e6);
  EXPECT_EQ(spec.norm_eps, 1e-6);
  EXPECT_EQ(spec.auxiliary_coefficient, 0.01);
  ASSERT_EQ(spec.blocks.size(), 3u);
  EXPECT_EQ(spec.blocks[2].moe.experts, 8);
  EXPECT_EQ(spec.moe_layers(), 3);
}

TEST(Qwen3Moe, DefaultsAreThoseOfTransformers) {
  const ModelSpec spec = read(with("head_dim", "null"));
  EXPECT_EQ(spec.blocks[0].attention.width, 16);  // 64 / 4
  EXPECT_EQ(spec.norm_eps, 1e-6);
  EXPECT_EQ(spec.initializer_range, 0.02);
  EXPECT_EQ(spec.auxiliary_coefficient, 0.001);
  EXPECT_FALSE(read(with("norm_topk_prob", "null")).blocks[0].moe.renormalise);
}

TEST(Qwen3Moe, DenseBlocksAmongSparseOnes) {
  EXPECT_EQ(sparseness(read(older())), "ssss");
  EXPECT_EQ(sparseness(read(with("decoder_sparse_step", "2"))), "dsds");  // (i + 1) % 2 == 0 is sparse
  EXPECT_EQ(sparseness(read(with("decoder_sparse_step", "3"))), "ddsd");
  EXPECT_EQ(sparseness(read(with("mlp_only_layers", "[0, 3]"))), "dssd");
  EXPECT_EQ(sparseness(read(older(R"(, "decoder_sparse_step": 2, "mlp_only_layers": [1])"))), "ddds");
  EXPECT_EQ(sparseness(read(with("num_experts", "0"))), "dddd");
  const ModelSpec spec = read(with("decoder_sparse_step", "2"));
  EXPECT_EQ(spec.blocks[0].dense_width, 96);
  EXPECT_EQ(spec.moe_layers(), 2);
}

TEST(Qwen3Moe, SlidingWindowsThatAreNotInUseAreIgnored) {
  EXPECT_EQ(refusal(with("layer_types", R"(["full_attention"])")), "");
  EXPECT_EQ(refusal(older(R"(, "sliding_window": 4096, "use_sliding_window": false, "max_window_layers": 2)")), "");
}

TEST(Qwen3Moe, RefusesWhatIsNotBuilt) {
  expect_refused("attention_bias", "true", "bias");
  expect_refused("attention_dropout", "0.1", "0.1");
  expect_refused("use_sliding_window", "true", "window");
  expect_refused("layer_types", R"(["sliding_attention"])", "sliding_attention");
  expect_refused("hidden_act", R"("gelu")", "gelu");
  expect_refused("rope_scaling", R"({"rope_type": "yarn"})", "yarn");
  expect_refused("rope_scaling", R"({"type": "linear"})", "linear");
  expect_refused("rope_parameters", R"({"partial_rotary_factor": 0.5})", "0.5");
}

TEST(Qwen3Moe, RefusesSizesThatDoNotFit) {
  expect_refused("hidden_size", "0", "0");
  expect_refused("vocab_size", "-1", "-1");
  expect_refused("num_hidden_layers", "0", "0");
  expect_refused("max_position_embeddings", "0", "0");
  expect_refused("num_attention_heads", "0", "0");
  expect_refused("num_key_value_heads", "3", "3");
  expect_refused("head_dim", "7", "7");
  expect_refused("moe_intermediate_size", "0", "0");
  expect_refused("num_experts", "-8", "-8");
  expect_refused("num_experts_per_tok", "9", "8 experts");
  expect_refused("decoder_sparse_step", "0", "0");
}

TEST(Qwen3Moe, RefusesAHiddenSizeThatHeadsDoNotDivide) {
  std::string text = with("head_dim", "null");
  text.replace(text.find("\"hidden_size\": 64"), 17, "\"hidden_size\": 66");
  const std::string message = refusal(text);
  EXPECT_NE(message.find("66"), std::string::npos) << message;
  EXPECT_NE(message.find("head_dim"), std::string::npos) << message;
}

TEST(Qwen3Moe, RefusesMissingKeys) {
  EXPECT_NE(refusal(with("hidden_size", "null")).find("hidden_size"), std::string::npos);
  EXPECT_NE(refusal(with("num_experts", "null")).find("num_local_experts"), std::string::npos);
  std::string text = with("decoder_sparse_step", "2");
  text.replace(text.find("\"intermediate_size\": 96"), 23, "\"intermediate_size\": null");
  EXPECT_NE(refusal(text).find("intermediate_size"), std::string::npos);
}

TEST(Qwen3Moe, RefusesDifferentExpertCountsInBothSpellings) {
  expect_refused("num_local_experts", "16", "16");
  EXPECT_EQ(refusal(with("num_local_experts", "8")), "");
}

TEST(Qwen3Moe, OverridesCutASlice) {
  const ModelSpec spec = read(older(), {.layers = 3, .vocabulary = 100, .experts = 4, .dense_layers = 1});
  EXPECT_EQ(sparseness(spec), "dss");
  EXPECT_EQ(spec.vocabulary, 100);
  EXPECT_EQ(spec.blocks[1].moe.experts, 4);
  EXPECT_EQ(spec.blocks[0].dense_width, 96);
  EXPECT_EQ(sparseness(read(with("decoder_sparse_step", "2"), {.dense_layers = 0})), "ssss");
}

TEST(Qwen3Moe, RefusesOverridesThatDoNotFit) {
  EXPECT_NE(refusal(older(), {.layers = 5}).find("model.layers is 5, but config.json has 4"), std::string::npos);
  EXPECT_NE(refusal(older(), {.layers = -1}).find("-1"), std::string::npos);
  EXPECT_NE(refusal(older(), {.vocabulary = 257}).find("256"), std::string::npos);
  EXPECT_NE(refusal(older(), {.experts = 16}).find("16"), std::string::npos);
  EXPECT_NE(refusal(older(), {.experts = 1}).find("num_experts_per_tok"), std::string::npos);
  EXPECT_NE(refusal(older(), {.layers = 2, .dense_layers = 3}).find("2 layers"), std::string::npos);
  EXPECT_NE(refusal(with("num_experts", "0"), {.dense_layers = 1}).find("no experts"), std::string::npos);
}

TEST(Family, UnknownOnesAreRefusedNamingTheKnown) {
  const std::string message = refusal(R"({"model_type": "qwen3_mo"})");
  EXPECT_NE(message.find("'qwen3_mo'"), std::string::npos) << message;
  EXPECT_NE(message.find("qwen3_moe; nearest"), std::string::npos) << message;
}

}  // namespace
}  // namespace moesaic
