#include "moesaic/models/cost.hpp"

#include <numeric>

namespace moesaic {

namespace {

// A product with a weight of n elements takes 2 n operations forward and 4 n backward.
constexpr double flops_per_weight = 6;

double attention_flops(const AttentionSpec& spec, std::int64_t sequence) {
  const auto heads = static_cast<double>(2 * spec.heads + 2 * spec.key_heads);
  const auto width = static_cast<double>(spec.width);
  const double projections = flops_per_weight * static_cast<double>(spec.hidden) * width * heads;
  // Scores and sums over values: two products over half the sequence.
  const double core = flops_per_weight * static_cast<double>(sequence) * static_cast<double>(spec.heads) * width;
  return projections + core;
}

double feed_forward_flops(const BlockSpec& block, std::int64_t hidden) {
  const std::int64_t width = block.sparse() ? block.moe.top_k * block.moe.width : block.dense_width;
  return flops_per_weight * 3 * static_cast<double>(hidden) * static_cast<double>(width);
}

}  // namespace

std::vector<double> flops_per_token_by_block(const ModelSpec& spec, std::int64_t sequence) {
  std::vector<double> flops{0};
  for (const BlockSpec& block : spec.blocks)
    flops.push_back(attention_flops(block.attention, sequence) + feed_forward_flops(block, spec.hidden));
  flops.push_back(flops_per_weight * static_cast<double>(spec.hidden) * static_cast<double>(spec.vocabulary));
  return flops;
}

double flops_per_token(const ModelSpec& spec, std::int64_t sequence) {
  const std::vector<double> blocks = flops_per_token_by_block(spec, sequence);
  return std::accumulate(blocks.begin(), blocks.end(), 0.0);
}

}  // namespace moesaic
