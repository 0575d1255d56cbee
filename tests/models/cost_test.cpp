#include "moesaic/models/cost.hpp"

#include <gtest/gtest.h>

#include <string>

#include "moesaic/models/family.hpp"

namespace moesaic {
namespace {

/// Qwen3-MoE's shape with heads of 128, 128 experts and top 8, untied, vocabulary 151,936.
ModelSpec qwen3(std::int64_t hidden, std::int64_t layers, std::int64_t heads, std::int64_t expert_width) {
  ModelSpec spec;
  spec.hidden = hidden;
  spec.vocabulary = 151936;
  BlockSpec block;
  block.attention = {.hidden = hidden, .heads = heads, .key_heads = 4, .width = 128, .head_norm = true};
  block.moe.hidden = hidden;
  block.moe.width = expert_width;
  block.moe.experts = 128;
  block.moe.top_k = 8;
  spec.blocks.assign(static_cast<std::size_t>(layers), block);
  return spec;
}

const ModelSpec a3b = qwen3(2048, 48, 32, 768);
const ModelSpec a22b = qwen3(4096, 94, 64, 1536);

ModelSpec public_model(const std::string& name) {
  return model_spec(HfConfig::load(MOESAIC_SOURCE_DIR "/inputs/models/" + name + ".json"));
}

/// With a sequence of 4,096 tokens; the figures that published rates of each model go by, to their last digit.
TEST(FlopsPerToken, OfPublicModels) {
  EXPECT_NEAR(flops_per_token(public_model("qwen3-30b-a3b"), 4096), 23.006e9, 0.0005e9);
  EXPECT_NEAR(flops_per_token(public_model("qwen3-235b-a22b"), 4096), 148.03e9, 0.005e9);
  EXPECT_NEAR(flops_per_token(public_model("deepseek-v3"), 4096), 249.81e9, 0.005e9);
  EXPECT_NEAR(flops_per_token(public_model("kimi-k2"), 4096), 204.48e9, 0.005e9);
  EXPECT_NEAR(flops_per_token(public_model("gpt-oss-20b"), 4096), 22.912e9, 0.0005e9);
  EXPECT_NEAR(flops_per_token(public_model("gpt-oss-120b"), 4096), 32.631e9, 0.0005e9);
}

TEST(FlopsPerToken, CountsDenseBlocks) {
  ModelSpec spec = qwen3(2, 1, 4, 3);
  spec.vocabulary = 5;
  spec.blocks[0].dense_width = 7;
  // 6 * (head 10 + projections 2 * 128 * 16 + feed-forward 3 * 2 * 7 + attention of 10 tokens 10 * 4 * 128)
  EXPECT_EQ(flops_per_token(spec, 10), 6 * (10 + 4096 + 42 + 5120));
}

TEST(FlopsPerToken, CountsWhatWindowsShow) {
  ModelSpec spec = qwen3(2, 2, 4, 3);
  for (BlockSpec& block : spec.blocks) block.dense_width = 7;
  spec.blocks[1].attention.window = 2;
  // A query, its own key counted, sees 1 + 2 + 3 + 4 = 10 keys of 4 tokens, and 1 + 2 + 2 + 2 = 7 through the window.
  const auto blocks = flops_per_token_by_block(spec, 4);
  EXPECT_EQ(blocks[1], 6 * (4096 + 42 + 10.0 / 4 * 2 * 4 * 128));
  EXPECT_EQ(blocks[2], 6 * (4096 + 42 + 7.0 / 4 * 2 * 4 * 128));
}

TEST(FlopsPerToken, CountsLatentAttentionAndSharedExperts) {
  ModelSpec spec = qwen3(2, 1, 4, 3);
  spec.vocabulary = 0;
  BlockSpec& block = spec.blocks[0];
  block.latent = {.hidden = 2,
                  .heads = 4,
                  .query_rank = 5,
                  .key_value_rank = 7,
                  .plain_width = 3,
                  .rotary_width = 2,
                  .value_width = 6};
  block.moe.shared_width = 11;
  // down to 5 and 7 + 2, up to 4 heads of 3 + 2, of 3 + 6, and from 4 of 6: 10 + 100 + 18 + 252 + 48; over 10 tokens
  // 5 keys of 4 heads times 5 + 6; 3 * 2 * (8 * 3 + 11) in the experts.
  EXPECT_EQ(flops_per_token(spec, 10), 6 * (428 + 220 + 210));
  block.latent->query_rank = 0;
  EXPECT_EQ(flops_per_token(spec, 10), 6 * (428 - 110 + 2 * 20 + 220 + 210));
}

TEST(ParameterCounts, OfTheTwoPublicModels) {
  EXPECT_NEAR(static_cast<double>(a3b.total_parameters()), 30.5e9, 0.02 * 30.5e9);
  EXPECT_NEAR(static_cast<double>(a3b.active_parameters()), 3.3e9, 0.02 * 3.3e9);
  EXPECT_NEAR(static_cast<double>(a22b.total_parameters()), 235e9, 0.02 * 235e9);
  EXPECT_NEAR(static_cast<double>(a22b.active_parameters()), 22e9, 0.02 * 22e9);
}

}  // namespace
}  // namespace moesaic
