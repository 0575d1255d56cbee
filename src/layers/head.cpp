#include "moesaic/layers/head.hpp"

#include <utility>

namespace moesaic {
namespace {

std::vector<UnitSpec> head_units(std::int64_t vocabulary, std::int64_t hidden, bool tied) {
  UnitSpec head{.name = "head",
                .expert = false,
                .parameters = {{"head/norm", {hidden}, Initialisation::ones, false}},
                .tied_to = {}};
  const Extents table{vocabulary, hidden};
  if (!tied) {
    head.parameters.push_back({.name = "head/weight", .shape = table, .product = true});
    return {head};
  }
  return {head,
          {.name = "head_table",
           .expert = false,
           .parameters = {{.name = "embedding/weight", .shape = table, .product = true}},
           .tied_to = "embedding"}};
}

}  // namespace

HeadBlock::HeadBlock(std::int64_t vocabulary, std::int64_t hidden, double norm_eps, bool tied)
    : tied_(tied), output_(norm_eps), units_(head_units(vocabulary, hidden, tied)) {}

Tensor HeadBlock::forward(const LayerContext& ctx, const BlockViews& weights, const MicroBatch& batch, Tensor hidden,
                          std::unique_ptr<BlockState>& state) const {
  auto own = std::make_unique<HeadState>();
  output_.forward(ctx, parts_of(weights), batch.labels, std::move(hidden), *own);
  state = std::move(own);
  return {};
}

Tensor HeadBlock::backward_input(const LayerContext& ctx, const BlockViews& weights, const MicroBatch& batch,
                                 BlockState& state, Tensor) const {
  auto& own = static_cast<HeadState&>(state);
  const OutputViews parts = parts_of(weights);
  Tensor gradient = output_.loss_backward(ctx, parts, batch.labels, batch.loss_scale, own);
  return output_.norm_backward(ctx, parts, std::move(gradient), own);
}

void HeadBlock::backward_weight(const LayerContext& ctx, const MicroBatch&, BlockState& state,
                                const BlockViews& gradients) const {
  output_.backward_weight(ctx, static_cast<HeadState&>(state), parts_of(gradients));
}

}  // namespace moesaic
