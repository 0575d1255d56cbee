#include <gtest/gtest.h>

#include <string>

#include "moesaic/base/contract.hpp"
#include "moesaic/models/family.hpp"

namespace moesaic {
namespace {

/// A config in the hub's spelling, with `changes` (members, each with a comma before it) after the rest.
ModelSpec read(const std::string& changes = "", const ModelOverrides& overrides = {}) {
  const std::string text = R"({"model_type": "mixtral", "hidden_size": 64, "vocab_size": 256,
    "max_position_embeddings": 512, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 96, "num_local_experts": 8, "num_experts_per_tok": 2, "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.02)" +
                           changes + "}";
  return model_spec(HfConfig::parse(text, "config.json"), overrides);
}

std::string refusal(const std::string& changes, const ModelOverrides& overrides = {}) {
  try {
    read(changes, overrides);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(Mixtral, EveryBlockIsSparse) {
  const ModelSpec spec = read(R"(, "sliding_window": null, "head_dim": null)");
  EXPECT_EQ(spec.family, "mixtral");
  EXPECT_EQ(spec.norm_eps, 1e-5) << "without rms_norm_eps";
  EXPECT_EQ(spec.rope.theta, 1e6);
  EXPECT_FALSE(spec.rope.yarn);
  EXPECT_EQ(spec.auxiliary_coefficient, 0.02);
  ASSERT_EQ(spec.blocks.size(), 3u);
  for (const BlockSpec& block : spec.blocks) {
    EXPECT_TRUE(block.sparse());
    EXPECT_EQ(block.attention.width, 16) << "64 / 4";
    EXPECT_EQ(block.attention.window, 0);
    EXPECT_FALSE(block.attention.head_norm || block.attention.bias || block.attention.sinks);
    EXPECT_EQ(block.moe.width, 96);
    EXPECT_EQ(block.moe.experts, 8);
    EXPECT_EQ(block.moe.top_k, 2);
    EXPECT_TRUE(block.moe.renormalise);
    EXPECT_FALSE(block.moe.bias);
  }
}

TEST(Mixtral, AWindowIsOfEveryBlock) {
  for (const BlockSpec& block : read(R"(, "sliding_window": 128)").blocks) EXPECT_EQ(block.attention.window, 128);
}

TEST(Mixtral, Slices) {
  const ModelSpec spec = read("", {.layers = 2, .vocabulary = 100, .experts = 4});
  EXPECT_EQ(spec.blocks.size(), 2u);
  EXPECT_EQ(spec.vocabulary, 100);
  EXPECT_EQ(spec.blocks[1].moe.experts, 4);
}

TEST(Mixtral, RefusesWhatIsNotBuilt) {
  EXPECT_NE(refusal(R"(, "router_jitter_noise": 0.1)").find("'router_jitter_noise' is 0.1"), std::string::npos);
  EXPECT_NE(refusal(R"(, "hidden_act": "gelu")").find("only silu"), std::string::npos);
  EXPECT_NE(refusal(R"(, "attention_dropout": 0.5)").find("dropout"), std::string::npos);
  EXPECT_NE(refusal("", {.dense_layers = 1}).find("model.dense_layers is 1"), std::string::npos);
  EXPECT_NE(refusal("", {.experts = 1}).find("'num_experts_per_tok' is 2"), std::string::npos);
}

TEST(Mixtral, NamesOfTheExperts) {
  const ModelSpec spec = read();
  std::int64_t found = 0;
  for (const HfPiece& piece : hf_pieces(spec)) {
    const std::string expert = "model.layers.1.block_sparse_moe.experts.5.";
    if (!piece.tensor.starts_with(expert)) continue;
    ++found;
    const std::int64_t first = 5 * 2 * 96 * 64;  // of this expert's gate
    const bool down = piece.tensor == expert + "w2.weight";
    EXPECT_EQ(piece.parameter, down ? "blocks/1/experts/down" : "blocks/1/experts/gate_up");
    EXPECT_EQ(piece.shape, down ? (Extents{64, 96}) : (Extents{96, 64}));
    EXPECT_EQ(piece.offset, down ? first / 2 : piece.tensor == expert + "w1.weight" ? first : first + 96 * 64);
  }
  EXPECT_EQ(found, 3);
}

}  // namespace
}  // namespace moesaic
