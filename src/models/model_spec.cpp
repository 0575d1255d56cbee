#include "moesaic/models/model_spec.hpp"

#include <algorithm>

namespace moesaic {

namespace {

std::int64_t attention_parameters(const AttentionSpec& attention) {
  const std::int64_t heads = 2 * attention.heads + 2 * attention.key_heads;  // queries, output, keys, values
  return attention.hidden * attention.width * heads + (attention.head_norm ? 2 * attention.width : 0);
}

std::int64_t swiglu_parameters(std::int64_t hidden, std::int64_t width) { return 3 * hidden * width; }

/// With `experts` of the experts of a sparse block.
std::int64_t feed_forward_parameters(const BlockSpec& block, std::int64_t hidden, std::int64_t experts) {
  if (!block.sparse()) return swiglu_parameters(hidden, block.dense_width);
  return block.moe.experts * hidden + experts * swiglu_parameters(hidden, block.moe.width);
}

std::int64_t count_parameters(const ModelSpec& spec, bool active) {
  const std::int64_t table = spec.vocabulary * spec.hidden;
  std::int64_t count = (spec.tied_head ? 1 : 2) * table + spec.hidden;  // and the last norm
  for (const BlockSpec& block : spec.blocks) {
    count += attention_parameters(block.attention) + 2 * spec.hidden;  // and its two norms
    count += feed_forward_parameters(block, spec.hidden, active ? block.moe.top_k : block.moe.experts);
  }
  return count;
}

}  // namespace

std::int64_t ModelSpec::moe_layers() const {
  return std::count_if(blocks.begin(), blocks.end(), [](const BlockSpec& block) { return block.sparse(); });
}

std::int64_t ModelSpec::total_parameters() const { return count_parameters(*this, false); }

std::int64_t ModelSpec::active_parameters() const { return count_parameters(*this, true); }

}  // namespace moesaic
