#pragma once
/// Makes the list of a family's Hugging Face tensors.

#include <string>
#include <utility>
#include <vector>

#include "moesaic/models/model_spec.hpp"

namespace moesaic {

/// Hands out consecutive ranges of one parameter after another.
class Pieces {
 public:
  /// The tensors that follow are parts of this parameter.
  void parameter(std::string name) {
    parameter_ = std::move(name);
    offset_ = 0;
  }
  /// Lies behind the tensor before.
  void tensor(std::string name, Extents shape) {
    pieces_.push_back({.tensor = std::move(name), .parameter = parameter_, .offset = offset_, .shape = shape});
    offset_ += shape.size();
  }
  /// A parameter of one tensor.
  void whole(std::string parameter_name, std::string tensor_name, Extents shape) {
    parameter(std::move(parameter_name));
    tensor(std::move(tensor_name), shape);
  }
  /// The same elements once more.
  void copy(std::string parameter_name, std::string tensor_name, Extents shape) {
    whole(std::move(parameter_name), std::move(tensor_name), shape);
    pieces_.back().copy = true;
  }
  void add(HfPiece piece) { pieces_.push_back(std::move(piece)); }
  std::vector<HfPiece> take() { return std::move(pieces_); }

 private:
  std::vector<HfPiece> pieces_;
  std::string parameter_;
  std::int64_t offset_ = 0;
};

/// The projections of grouped-query attention, `theirs`.{q,k,v,o}_proj, and what the spec has beside them.
void add_grouped_query_attention(Pieces& pieces, const AttentionSpec& spec, const std::string& ours,
                                 const std::string& theirs);

/// A SwiGLU feed-forward in three matrices, `theirs`.{gate,up,down}_proj.weight: `ours`/gate_up and `ours`/down.
void add_swiglu(Pieces& pieces, std::int64_t hidden, std::int64_t width, const std::string& ours,
                const std::string& theirs);

/// Experts of a matrix each, `theirs`.<e>.`gate`.weight and so on: `ours`/gate_up and `ours`/down.
struct ExpertTensors {
  std::string gate = "gate_proj", up = "up_proj", down = "down_proj";
};
void add_experts(Pieces& pieces, const MoeSpec& spec, const std::string& ours, const std::string& theirs,
                 const ExpertTensors& names = {});

/// Embedding, what `add_block`(pieces, index) adds of each block, final norm and head.
template <class AddBlock> std::vector<HfPiece> model_pieces(const ModelSpec& spec, const AddBlock& add_block) {
  Pieces pieces;
  pieces.whole("embedding/weight", "model.embed_tokens.weight", {spec.vocabulary, spec.hidden});
  for (std::size_t i = 0; i < spec.blocks.size(); ++i) add_block(pieces, i);
  pieces.whole("head/norm", "model.norm.weight", {spec.hidden});
  if (!spec.tied_head) pieces.whole("head/weight", "lm_head.weight", {spec.vocabulary, spec.hidden});
  return pieces.take();
}

}  // namespace moesaic
