#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "moesaic/base/contract.hpp"
#include "moesaic/models/family.hpp"

namespace moesaic {
namespace {

/// A config in the hub's spelling, with `changes` (members, each with a comma before it) after the rest.
ModelSpec read(const std::string& changes = "", const ModelOverrides& overrides = {}) {
  const std::string text = R"({"model_type": "gpt_oss", "hidden_size": 64, "vocab_size": 256,
    "max_position_embeddings": 4096, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 32, "intermediate_size": 48, "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": 16,
    "rope_theta": 150000, "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
    "original_max_position_embeddings": 128, "truncate": false})" +
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

TEST(GptOss, WhatIsPeculiarToIt) {
  const ModelSpec spec = read();
  EXPECT_EQ(spec.family, "gpt_oss");
  EXPECT_EQ(spec.norm_eps, 1e-5) << "without rms_norm_eps";
  ASSERT_TRUE(spec.rope.yarn);
  EXPECT_EQ(spec.rope.theta, 150000);
  EXPECT_EQ(spec.rope.yarn->factor, 32);
  EXPECT_EQ(spec.rope.yarn->original_positions, 128);
  EXPECT_FALSE(spec.rope.yarn->truncate);
  ASSERT_EQ(spec.blocks.size(), 3u);
  for (const BlockSpec& block : spec.blocks) {
    EXPECT_EQ(block.attention.width, 32);
    EXPECT_TRUE(block.attention.bias && block.attention.sinks);
    EXPECT_FALSE(block.attention.head_norm);
    EXPECT_TRUE(block.moe.bias && block.moe.renormalise);
    EXPECT_EQ(block.moe.width, 48);
    EXPECT_EQ(block.moe.swiglu.alpha, 1.702);
    EXPECT_EQ(block.moe.swiglu.limit, 7);
    EXPECT_EQ(block.moe.swiglu.up_offset, 1);
  }
}

std::vector<std::int64_t> windows(const ModelSpec& spec) {
  std::vector<std::int64_t> sizes;
  for (const BlockSpec& block : spec.blocks) sizes.push_back(block.attention.window);
  return sizes;
}

TEST(GptOss, WindowsAlternateUnlessTheConfigSaysOtherwise) {
  EXPECT_EQ(windows(read()), (std::vector<std::int64_t>{16, 0, 16}));
  const std::string types = R"(, "layer_types": ["full_attention", "full_attention", "sliding_attention"])";
  EXPECT_EQ(windows(read(types)), (std::vector<std::int64_t>{0, 0, 16}));
  EXPECT_EQ(windows(read(types, {.layers = 2})), (std::vector<std::int64_t>{0, 0}));
}

TEST(GptOss, OptionsOfTheConfig) {
  const ModelSpec spec = read(R"(, "attention_bias": false, "swiglu_limit": 5.5, "router_aux_loss_coef": 0.9)");
  EXPECT_FALSE(spec.blocks[0].attention.bias);
  EXPECT_TRUE(spec.blocks[0].moe.bias) << "experts keep theirs";
  EXPECT_EQ(spec.blocks[0].moe.swiglu.limit, 5.5);
  EXPECT_EQ(spec.auxiliary_coefficient, 0.9);
}

TEST(GptOss, RefusesWhatIsNotBuilt) {
  EXPECT_NE(refusal(R"(, "layer_types": ["full_attention"])").find("names 1 layers of 3"), std::string::npos);
  EXPECT_NE(refusal(R"(, "layer_types": ["x", "x", "x"])").find("'layer_types' holds 'x'"), std::string::npos);
  EXPECT_NE(refusal(R"(, "swiglu_limit": 0)").find("'swiglu_limit' is 0"), std::string::npos);
  EXPECT_NE(refusal(R"(, "attention_dropout": 0.5)").find("dropout"), std::string::npos);
  EXPECT_NE(refusal("", {.dense_layers = 1}).find("model.dense_layers is 1"), std::string::npos);
}

const HfPiece& piece_of(const std::vector<HfPiece>& pieces, const std::string& tensor) {
  return *std::find_if(pieces.begin(), pieces.end(), [&](const HfPiece& piece) { return piece.tensor == tensor; });
}

/// Where element (i, j, k, l) of a piece lies in its parameter.
std::int64_t place(const HfPiece& piece, const std::vector<std::int64_t>& index) {
  std::int64_t at = piece.offset;
  for (std::size_t d = 0; d < index.size(); ++d) at += index[d] * piece.strides[d];
  return at;
}

// Ours are [8, 96, 64] with the rows of gate before those of up, and [8, 64, 48].
TEST(GptOss, FusedExpertsAreTransposedAndTakenApart) {
  const std::vector<HfPiece> pieces = hf_pieces(read());
  const std::string experts = "model.layers.2.mlp.experts.";
  const HfPiece& gate_up = piece_of(pieces, experts + "gate_up_proj");
  EXPECT_EQ(gate_up.parameter, "blocks/2/experts/gate_up");
  EXPECT_EQ(gate_up.shape, (Extents{8, 64, 48, 2}));
  EXPECT_EQ(gate_up.whole, (Extents{8, 64, 96}));
  EXPECT_EQ(place(gate_up, {3, 10, 5, 0}), (3 * 96 + 5) * 64 + 10) << "column 10 of column 5 of gate";
  EXPECT_EQ(place(gate_up, {3, 10, 5, 1}), (3 * 96 + 48 + 5) * 64 + 10);
  const HfPiece& down = piece_of(pieces, experts + "down_proj");
  EXPECT_EQ(down.shape, (Extents{8, 48, 64}));
  EXPECT_EQ(place(down, {3, 5, 10}), (3 * 64 + 10) * 48 + 5);
  const HfPiece& bias = piece_of(pieces, experts + "gate_up_proj_bias");
  EXPECT_EQ(place(bias, {3, 5, 1}), 3 * 96 + 48 + 5);
  const HfPiece& down_bias = piece_of(pieces, experts + "down_proj_bias");
  EXPECT_EQ(down_bias.shape, (Extents{8, 64}));
  EXPECT_TRUE(down_bias.strides.empty());
}

TEST(GptOss, NamesOfBiasesAndSinks) {
  const std::vector<HfPiece> pieces = hf_pieces(read());
  const HfPiece& values = piece_of(pieces, "model.layers.1.self_attn.v_proj.bias");
  EXPECT_EQ(values.parameter, "blocks/1/attention/query_key_value_bias");
  EXPECT_EQ(values.offset, 4 * 32 + 2 * 32);
  EXPECT_EQ(piece_of(pieces, "model.layers.1.self_attn.o_proj.bias").parameter, "blocks/1/attention/output_bias");
  EXPECT_EQ(piece_of(pieces, "model.layers.1.self_attn.sinks").parameter, "blocks/1/attention/sinks");
  EXPECT_EQ(piece_of(pieces, "model.layers.1.mlp.router.bias").parameter, "blocks/1/router_bias");
}

}  // namespace
}  // namespace moesaic
