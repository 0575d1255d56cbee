#include "moesaic/models/cost.hpp"

#include <algorithm>
#include <numeric>

namespace moesaic {

namespace {

// A product with a weight of n elements takes 2 n operations forward and 4 n backward, and so does one of a query with a
// key or of a probability with a value, of n elements.
constexpr double flops_per_element = 6;

/// Keys that a query sees on average, its own counted.
double keys_in_window(std::int64_t sequence, std::int64_t window) {
  const auto length = static_cast<double>(sequence), seen = static_cast<double>(std::min(window, sequence));
  return (seen * (seen + 1) / 2 + (length - seen) * seen) / length;
}

double half_of(std::int64_t sequence) { return static_cast<double>(sequence) / 2; }

bool has_windows(const ModelSpec& spec) {
  return std::ranges::any_of(spec.blocks, [](const BlockSpec& block) { return block.attention.window > 0; });
}

/// keys: that a query sees on average.
double attention_flops(const AttentionSpec& spec, double keys) {
  const std::int64_t projections = spec.hidden * spec.width * (2 * spec.heads + 2 * spec.key_heads);
  const double core = keys * static_cast<double>(2 * spec.heads * spec.width);
  return flops_per_element * (static_cast<double>(projections) + core);
}

double attention_flops(const LatentAttentionSpec& spec, double keys) {
  const std::int64_t queries = spec.heads * spec.query_width(), values = spec.heads * spec.value_width;
  const std::int64_t query_projections =
      spec.query_rank == 0 ? spec.hidden * queries : spec.query_rank * (spec.hidden + queries);
  const std::int64_t projections = query_projections + spec.hidden * (spec.key_value_rank + spec.rotary_width) +
                                   spec.key_value_rank * (spec.heads * spec.plain_width + values) +
                                   values * spec.hidden;
  return flops_per_element * (static_cast<double>(projections) + keys * static_cast<double>(queries + values));
}

double feed_forward_flops(const BlockSpec& block, std::int64_t hidden) {
  const std::int64_t width =
      block.sparse() ? block.moe.top_k * block.moe.width + block.moe.shared_width : block.dense_width;
  return flops_per_element * static_cast<double>(3 * hidden * width);
}

double block_flops(const BlockSpec& block, std::int64_t hidden, double keys) {
  return feed_forward_flops(block, hidden) +
         (block.latent ? attention_flops(*block.latent, keys) : attention_flops(block.attention, keys));
}

}  // namespace

std::vector<double> flops_per_token_by_block(const ModelSpec& spec, std::int64_t sequence) {
  std::vector<double> flops{0};
  const bool windows = has_windows(spec);
  for (const BlockSpec& block : spec.blocks) {
    const std::int64_t window = block.attention.window > 0 ? block.attention.window : sequence;
    flops.push_back(block_flops(block, spec.hidden, windows ? keys_in_window(sequence, window) : half_of(sequence)));
  }
  const double head = flops_per_element * static_cast<double>(spec.hidden * spec.vocabulary);
  if (!spec.predicts) {
    flops.push_back(head);
  } else {  // its block is a part of the head, which is used twice
    flops.back() += 2 * head + flops_per_element * static_cast<double>(2 * spec.hidden * spec.hidden);
  }
  return flops;
}

double flops_per_token(const ModelSpec& spec, std::int64_t sequence) {
  const std::vector<double> blocks = flops_per_token_by_block(spec, sequence);
  return std::accumulate(blocks.begin(), blocks.end(), 0.0);
}

}  // namespace moesaic
