#include "moesaic/layers/embedding.hpp"

#include <utility>

namespace moesaic {
namespace {

struct EmbeddingState : BlockState {
  Tensor output_gradient;  ///< [tokens, hidden]
};

}  // namespace

EmbeddingBlock::EmbeddingBlock(std::int64_t vocabulary, std::int64_t hidden) : hidden_(hidden) {
  units_ = {{.name = "embedding",
             .expert = false,
             .parameters = {{"embedding/weight", {vocabulary, hidden}}},
             .tied_to = {}}};
}

Tensor EmbeddingBlock::forward(const LayerContext& ctx, const BlockViews& weights, const MicroBatch& batch, Tensor,
                               std::unique_ptr<BlockState>& state) const {
  Tensor hidden = ctx.activation({batch.tokens(), hidden_});
  ctx.ops->embedding_forward(ctx.on, weights[0][0], batch.ids, hidden);
  state = std::make_unique<EmbeddingState>();
  return hidden;
}

Tensor EmbeddingBlock::backward_input(const LayerContext&, const BlockViews&, const MicroBatch&, BlockState& state,
                                      Tensor output_gradient) const {
  static_cast<EmbeddingState&>(state).output_gradient = std::move(output_gradient);
  return {};
}

void EmbeddingBlock::backward_weight(const LayerContext& ctx, const MicroBatch& batch, BlockState& state,
                                     const BlockViews& gradients) const {
  Tensor& output_gradient = static_cast<EmbeddingState&>(state).output_gradient;
  ctx.ops->embedding_backward(ctx.on, batch.ids, output_gradient, gradients[0][0]);
  output_gradient.reset();
}

}  // namespace moesaic
