#include "moesaic/layers/head.hpp"

#include "moesaic/layers/linear.hpp"

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
    head.parameters.push_back({"head/weight", table});
    return {head};
  }
  return {head,
          {.name = "head_table", .expert = false, .parameters = {{"embedding/weight", table}}, .tied_to = "embedding"}};
}

}  // namespace

HeadBlock::HeadBlock(std::int64_t vocabulary, std::int64_t hidden, double norm_eps, bool tied)
    : vocabulary_(vocabulary), tied_(tied), norm_(norm_eps), units_(head_units(vocabulary, hidden, tied)) {}

Tensor HeadBlock::forward(const LayerContext& ctx, const BlockViews& weights, const MicroBatch& batch, Tensor hidden,
                          std::unique_ptr<BlockState>& state) const {
  const std::int64_t tokens = batch.tokens();
  auto own = std::make_unique<HeadState>();
  own->input = std::move(hidden);
  own->normalised = ctx.activation(own->input.view().extents());
  norm_.forward(ctx, weights[0][0], own->input, own->normalised, own->norm);

  own->logits = ctx.activation({tokens, vocabulary_});
  linear_forward(ctx, own->normalised, table_of(weights), own->logits);
  own->losses = ctx.activation(ctx.accumulator(), {tokens});
  own->log_sum_exp = ctx.activation(ctx.accumulator(), {tokens});
  ctx.ops->cross_entropy_forward(ctx.on, own->logits, batch.labels, own->losses, own->log_sum_exp);
  own->loss_sum = ctx.activation(DType::f64, {1});
  ctx.ops->sum(ctx.on, own->losses, own->loss_sum);
  state = std::move(own);
  return {};
}

Tensor HeadBlock::backward_input(const LayerContext& ctx, const BlockViews& weights, const MicroBatch& batch,
                                 BlockState& state, Tensor) const {
  auto& own = static_cast<HeadState&>(state);
  ctx.ops->cross_entropy_backward(ctx.on, own.logits, batch.labels, own.log_sum_exp, batch.loss_scale);
  own.log_sum_exp.reset();
  Tensor gradient = ctx.activation(own.input.view().extents());
  linear_backward_input(ctx, own.logits, table_of(weights), 0, gradient);
  norm_.backward_input(ctx, weights[0][0], own.input, gradient, 0, gradient, own.norm);
  own.input.reset();
  return gradient;
}

void HeadBlock::backward_weight(const LayerContext& ctx, const MicroBatch&, BlockState& state,
                                const BlockViews& gradients) const {
  auto& own = static_cast<HeadState&>(state);
  norm_.backward_weight(ctx, own.norm, gradients[0][0]);
  linear_backward_weight(ctx, own.logits, own.normalised, table_of(gradients));
  own.logits.reset();
  own.normalised.reset();
}

}  // namespace moesaic
