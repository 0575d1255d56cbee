#include "moesaic/layers/rms_norm.hpp"

namespace moesaic {
namespace {

/// The leading extents of x: one statistic for each.
Extents rows_of(ConstView x) { return x.rank() == 3 ? Extents{x.extent(0), x.extent(1)} : Extents{x.extent(0)}; }

}  // namespace

void RmsNorm::forward(const LayerContext& ctx, ConstView weight, ConstView x, View y, RmsNormState& state) const {
  state.inverse_rms = ctx.activation(ctx.accumulator(), rows_of(x));
  ctx.ops->rms_norm_forward(ctx.on, x, weight, eps_, y, state.inverse_rms);
}

void RmsNorm::forward_residual(const LayerContext& ctx, ConstView weight, ConstView residual, View x, View y,
                               RmsNormState& state) const {
  state.inverse_rms = ctx.activation(ctx.accumulator(), rows_of(x));
  ctx.ops->rms_norm_residual_forward(ctx.on, residual, weight, eps_, x, y, state.inverse_rms);
}

void RmsNorm::forward_rotary(const LayerContext& ctx, ConstView weight, const RotaryTable& table, ConstView positions,
                             ConstView x, View y, RmsNormState& state) const {
  state.inverse_rms = ctx.activation(ctx.accumulator(), rows_of(x));
  ctx.ops->head_norm_rotary_forward(ctx.on, x, weight, eps_, table.cosine(), table.sine(), positions, y,
                                    state.inverse_rms);
}

void RmsNorm::backward_input(const LayerContext& ctx, ConstView weight, ConstView x, ConstView output_gradient,
                             double beta, View x_gradient, RmsNormState& state) const {
  state.weight_gradient = ctx.activation(ctx.accumulator(), weight.extents());
  ctx.ops->fill(ctx.on, 0, state.weight_gradient);
  ctx.ops->rms_norm_backward(ctx.on, x, weight, state.inverse_rms, output_gradient, beta, x_gradient,
                             state.weight_gradient);
  state.inverse_rms.reset();
}

void RmsNorm::backward_input_rotary(const LayerContext& ctx, ConstView weight, const RotaryTable& table,
                                    ConstView positions, ConstView x, View gradient, RmsNormState& state) const {
  state.weight_gradient = ctx.activation(ctx.accumulator(), weight.extents());
  ctx.ops->fill(ctx.on, 0, state.weight_gradient);
  ctx.ops->head_norm_rotary_backward(ctx.on, x, weight, state.inverse_rms, table.cosine(), table.sine(), positions,
                                     gradient, state.weight_gradient);
  state.inverse_rms.reset();
}

void RmsNorm::backward_weight(const LayerContext& ctx, RmsNormState& state, View weight_gradient) const {
  ctx.ops->accumulate(ctx.on, state.weight_gradient, weight_gradient);
  state.weight_gradient.reset();
}

}  // namespace moesaic
