#include "moesaic/models/model_spec.hpp"

#include <algorithm>

namespace moesaic {

namespace {

std::int64_t attention_parameters(const AttentionSpec& attention) {
  const std::int64_t heads = 2 * attention.heads + 2 * attention.key_heads;  // queries, output, keys, values
  const std::int64_t biases = (attention.bias ? (attention.heads + 2 * attention.key_heads) * attention.width : 0) +
                              (attention.output_bias ? attention.hidden : 0);
  return attention.hidden * attention.width * heads + (attention.head_norm ? 2 * attention.width : 0) + biases +
         (attention.sinks ? attention.heads : 0);
}

std::int64_t attention_parameters(const LatentAttentionSpec& attention) {
  const std::int64_t rank = attention.key_value_rank, queries = attention.heads * attention.query_width();
  const std::int64_t from_hidden =
      rank + attention.rotary_width + attention.heads * attention.value_width;                             // and output
  const std::int64_t from_latent = attention.heads * (attention.plain_width + attention.value_width) + 1;  // and norm
  const std::int64_t query =
      attention.query_rank == 0 ? attention.hidden * queries : attention.query_rank * (attention.hidden + queries + 1);
  return attention.hidden * from_hidden + rank * from_latent + query;
}

std::int64_t swiglu_parameters(std::int64_t hidden, std::int64_t width) { return 3 * hidden * width; }

/// With `experts` of the experts of a sparse block.
std::int64_t feed_forward_parameters(const BlockSpec& block, std::int64_t hidden, std::int64_t experts) {
  if (!block.sparse()) return swiglu_parameters(hidden, block.dense_width);
  const std::int64_t biases = block.moe.experts + experts * (2 * block.moe.width + hidden);
  return block.moe.experts * hidden + experts * swiglu_parameters(hidden, block.moe.width) +
         swiglu_parameters(hidden, block.moe.shared_width) + (block.moe.bias ? biases : 0);
}

std::int64_t count_parameters(const ModelSpec& spec, bool active) {
  const std::int64_t table = spec.vocabulary * spec.hidden;
  std::int64_t count = (spec.tied_head ? 1 : 2) * table + spec.hidden;  // and the last norm
  if (spec.predicts) count += (3 + 2 * spec.hidden) * spec.hidden;      // three norms and the projection
  for (const BlockSpec& block : spec.blocks) {
    count += block.latent ? attention_parameters(*block.latent) : attention_parameters(block.attention);
    count += 2 * spec.hidden;  // its two norms
    count += feed_forward_parameters(block, spec.hidden, active ? block.moe.top_k : block.moe.experts);
  }
  return count;
}

}  // namespace

std::int64_t ModelSpec::moe_layers() const {
  return std::count_if(blocks.begin(), blocks.end(), [](const BlockSpec& block) { return block.sparse(); });
}

std::int64_t ModelSpec::total_parameters() const { return count_parameters(*this, false); }

std::int64_t ModelSpec::active_parameters() const {
  return count_parameters(*this, true) - (counts_embedding || tied_head ? 0 : vocabulary * hidden);
}

std::string selection_bias_name(std::int64_t layer) { return "/router/selection_bias/" + std::to_string(layer); }

}  // namespace moesaic
