#include <fmt/format.h>

#include <utility>

#include "moesaic/models/families/qwen3_moe.hpp"

namespace moesaic::qwen3_moe {

namespace {

/// Hands out consecutive ranges of one parameter.
class Pieces {
 public:
  void parameter(std::string name) {
    parameter_ = std::move(name);
    offset_ = 0;
  }
  void tensor(std::string name, Extents shape) {
    pieces_.push_back({std::move(name), parameter_, offset_, shape});
    offset_ += shape.size();
  }
  void whole(std::string parameter_name, std::string tensor_name, Extents shape) {
    parameter(std::move(parameter_name));
    tensor(std::move(tensor_name), shape);
  }
  std::vector<HfPiece> take() { return std::move(pieces_); }

 private:
  std::vector<HfPiece> pieces_;
  std::string parameter_;
  std::int64_t offset_ = 0;
};

/// `ours` and `theirs`: the block's prefix in our names and in the Hugging Face file.
void add_attention(Pieces& pieces, const AttentionSpec& spec, const std::string& ours, const std::string& theirs) {
  const std::int64_t queries = spec.heads * spec.width, keys = spec.key_heads * spec.width;
  pieces.parameter(ours + "attention/query_key_value");
  pieces.tensor(theirs + "self_attn.q_proj.weight", {queries, spec.hidden});
  pieces.tensor(theirs + "self_attn.k_proj.weight", {keys, spec.hidden});
  pieces.tensor(theirs + "self_attn.v_proj.weight", {keys, spec.hidden});
  pieces.whole(ours + "attention/query_norm", theirs + "self_attn.q_norm.weight", {spec.width});
  pieces.whole(ours + "attention/key_norm", theirs + "self_attn.k_norm.weight", {spec.width});
  pieces.whole(ours + "attention/output", theirs + "self_attn.o_proj.weight", {spec.hidden, queries});
}

void add_dense(Pieces& pieces, std::int64_t hidden, std::int64_t width, const std::string& ours,
               const std::string& theirs) {
  pieces.parameter(ours + "feed_forward/gate_up");
  pieces.tensor(theirs + "mlp.gate_proj.weight", {width, hidden});
  pieces.tensor(theirs + "mlp.up_proj.weight", {width, hidden});
  pieces.whole(ours + "feed_forward/down", theirs + "mlp.down_proj.weight", {hidden, width});
}

void add_experts(Pieces& pieces, const MoeSpec& spec, const std::string& ours, const std::string& theirs) {
  pieces.whole(ours + "router", theirs + "mlp.gate.weight", {spec.experts, spec.hidden});
  pieces.parameter(ours + "experts/gate_up");
  for (std::int64_t e = 0; e < spec.experts; ++e) {
    pieces.tensor(fmt::format("{}mlp.experts.{}.gate_proj.weight", theirs, e), {spec.width, spec.hidden});
    pieces.tensor(fmt::format("{}mlp.experts.{}.up_proj.weight", theirs, e), {spec.width, spec.hidden});
  }
  pieces.parameter(ours + "experts/down");
  for (std::int64_t e = 0; e < spec.experts; ++e) {
    pieces.tensor(fmt::format("{}mlp.experts.{}.down_proj.weight", theirs, e), {spec.hidden, spec.width});
  }
}

void add_block(Pieces& pieces, const BlockSpec& block, std::int64_t hidden, std::size_t index) {
  const std::string ours = fmt::format("blocks/{}/", index), theirs = fmt::format("model.layers.{}.", index);
  pieces.whole(ours + "attention_norm", theirs + "input_layernorm.weight", {hidden});
  add_attention(pieces, block.attention, ours, theirs);
  pieces.whole(ours + "feed_forward_norm", theirs + "post_attention_layernorm.weight", {hidden});
  if (block.sparse()) {
    add_experts(pieces, block.moe, ours, theirs);
  } else {
    add_dense(pieces, hidden, block.dense_width, ours, theirs);
  }
}

}  // namespace

std::vector<HfPiece> pieces(const ModelSpec& spec) {
  Pieces pieces;
  pieces.whole("embedding/weight", "model.embed_tokens.weight", {spec.vocabulary, spec.hidden});
  for (std::size_t i = 0; i < spec.blocks.size(); ++i) add_block(pieces, spec.blocks[i], spec.hidden, i);
  pieces.whole("head/norm", "model.norm.weight", {spec.hidden});
  if (!spec.tied_head) pieces.whole("head/weight", "lm_head.weight", {spec.vocabulary, spec.hidden});
  return pieces.take();
}

}  // namespace moesaic::qwen3_moe
