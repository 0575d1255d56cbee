#include "moesaic/models/cost.hpp"

#include <gtest/gtest.h>

namespace moesaic {
namespace {

/// Qwen3-MoE's shape with heads of 128, 128 experts and top 8, untied, vocabulary 151,936.
ModelSpec qwen3(std::int64_t hidden, std::int64_t layers, std::int64_t heads, std::int64_t expert_width) {
  ModelSpec spec;
  spec.hidden = hidden;
  spec.vocabulary = 151936;
  BlockSpec block;
  block.attention = {hidden, heads, 4, 128, true, 1e-6};
  block.moe.hidden = hidden;
  block.moe.width = expert_width;
  block.moe.experts = 128;
  block.moe.top_k = 8;
  spec.blocks.assign(static_cast<std::size_t>(layers), block);
  return spec;
}

const ModelSpec a3b = qwen3(2048, 48, 32, 768);
const ModelSpec a22b = qwen3(4096, 94, 64, 1536);

TEST(FlopsPerToken, OfTheTwoPublicModels) {
  EXPECT_NEAR(flops_per_token(a3b, 4096), 23.006e9, 0.0005e9);
  EXPECT_NEAR(flops_per_token(a22b, 4096), 148.03e9, 0.005e9);
}

TEST(FlopsPerToken, CountsDenseBlocks) {
  ModelSpec spec = qwen3(2, 1, 4, 3);
  spec.vocabulary = 5;
  spec.blocks[0].dense_width = 7;
  // 6 * (head 10 + projections 2 * 128 * 16 + feed-forward 3 * 2 * 7 + attention of 10 tokens 10 * 4 * 128)
  EXPECT_EQ(flops_per_token(spec, 10), 6 * (10 + 4096 + 42 + 5120));
}

TEST(ParameterCounts, OfTheTwoPublicModels) {
  EXPECT_NEAR(static_cast<double>(a3b.total_parameters()), 30.5e9, 0.02 * 30.5e9);
  EXPECT_NEAR(static_cast<double>(a3b.active_parameters()), 3.3e9, 0.02 * 3.3e9);
  EXPECT_NEAR(static_cast<double>(a22b.total_parameters()), 235e9, 0.02 * 235e9);
  EXPECT_NEAR(static_cast<double>(a22b.active_parameters()), 22e9, 0.02 * 22e9);
}

}  // namespace
}  // namespace moesaic
