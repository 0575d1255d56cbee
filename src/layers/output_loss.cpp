#include "moesaic/layers/output_loss.hpp"

#include "moesaic/layers/linear.hpp"

#include <utility>

namespace moesaic {

void OutputLoss::forward(const LayerContext& ctx, const OutputViews& weights, ConstView labels, Tensor hidden,
                         OutputState& state) const {
  const std::int64_t tokens = hidden.view().extent(0);
  state.input = std::move(hidden);
  state.normalised = ctx.activation(state.input.view().extents());
  norm_.forward(ctx, weights.norm, state.input, state.normalised, state.norm);

  state.logits = ctx.activation({tokens, weights.table.extent(0)});
  linear_forward(ctx, state.normalised, weights.table, state.logits);
  state.losses = ctx.activation(ctx.accumulator(), {tokens});
  state.log_sum_exp = ctx.activation(ctx.accumulator(), {tokens});
  ctx.ops->cross_entropy_forward(ctx.on, state.logits, labels, state.losses, state.log_sum_exp);
  state.loss_sum = ctx.activation(DType::f64, {1});
  ctx.ops->sum(ctx.on, state.losses, state.loss_sum);
}

Tensor OutputLoss::loss_backward(const LayerContext& ctx, const OutputViews& weights, ConstView labels, double scale,
                                 OutputState& state) const {
  ctx.ops->cross_entropy_backward(ctx.on, state.logits, labels, state.log_sum_exp, scale);
  state.log_sum_exp.reset();
  Tensor gradient = ctx.activation(state.input.view().extents());
  linear_backward_input(ctx, state.logits, weights.table, 0, gradient);
  return gradient;
}

Tensor OutputLoss::norm_backward(const LayerContext& ctx, const OutputViews& weights, Tensor gradient,
                                 OutputState& state) const {
  norm_.backward_input(ctx, weights.norm, state.input, gradient, 0, gradient, state.norm);
  state.input.reset();
  return gradient;
}

void OutputLoss::backward_weight(const LayerContext& ctx, OutputState& state, const OutputViews& gradients) const {
  norm_.backward_weight(ctx, state.norm, gradients.norm);
  linear_backward_weight(ctx, state.logits, state.normalised, gradients.table);
  state.logits.reset();
  state.normalised.reset();
}

}  // namespace moesaic
