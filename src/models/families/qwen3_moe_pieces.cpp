#include <fmt/format.h>

#include "moesaic/models/families/qwen3_moe.hpp"
#include "pieces.hpp"

namespace moesaic::qwen3_moe {

namespace {

/// `ours` and `theirs`: the block's prefix in our names and in the Hugging Face file.
void add_block(Pieces& pieces, const BlockSpec& block, std::int64_t hidden, std::size_t index) {
  const std::string ours = fmt::format("blocks/{}/", index), theirs = fmt::format("model.layers.{}.", index);
  pieces.whole(ours + "attention_norm", theirs + "input_layernorm.weight", {hidden});
  add_grouped_query_attention(pieces, block.attention, ours + "attention", theirs + "self_attn");
  pieces.whole(ours + "feed_forward_norm", theirs + "post_attention_layernorm.weight", {hidden});
  if (block.sparse()) {
    pieces.whole(ours + "router", theirs + "mlp.gate.weight", {block.moe.experts, hidden});
    add_experts(pieces, block.moe, ours + "experts", theirs + "mlp.experts");
  } else {
    add_swiglu(pieces, hidden, block.dense_width, ours + "feed_forward", theirs + "mlp");
  }
}

}  // namespace

std::vector<HfPiece> pieces(const ModelSpec& spec) {
  return model_pieces(spec, [&](Pieces& pieces, std::size_t i) { add_block(pieces, spec.blocks[i], spec.hidden, i); });
}

}  // namespace moesaic::qwen3_moe
