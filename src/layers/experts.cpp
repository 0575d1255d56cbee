#include "moesaic/layers/experts.hpp"

namespace moesaic {
namespace {

void sort_slots(const LayerContext& ctx, std::int64_t experts, const ExpertInput& input, ExpertState& state) {
  state.offsets = ctx.activation(DType::i64, {experts + 1});
  state.slot_token = ctx.activation(DType::i32, {input.indices.size()});
  state.token_slot = ctx.activation(DType::i32, input.indices.extents());
  ctx.ops->sort_by_key(ctx.on, input.indices, state.offsets, state.slot_token, state.token_slot);
}

/// Nothing where there is no bias.
void add_bias(const LayerContext& ctx, ConstView bias, const Tensor& offsets, const Tensor& slots) {
  if (!bias.absent()) ctx.ops->add_bias(ctx.on, bias, offsets, slots);
}

void add_bias_gradient(const LayerContext& ctx, const Tensor& slots_gradient, const Tensor& offsets, View gradient) {
  if (!gradient.absent()) ctx.ops->bias_gradient(ctx.on, slots_gradient, offsets, gradient);
}

/// [slots, hidden], in expert order.
Tensor gather(const LayerContext& ctx, const ExpertInput& input, const ExpertState& state) {
  Tensor gathered = ctx.workspace({input.slots, input.rows.extent(1)});
  ctx.ops->gather_rows(ctx.on, input.rows, state.slot_token, gathered);
  return gathered;
}

Tensor activate(const LayerContext& ctx, const ExpertState& state, const SwigluOptions& swiglu) {
  const ConstView gate_up = state.gate_up;
  Tensor activated = ctx.activation({gate_up.extent(0), gate_up.extent(1) / 2});
  ctx.ops->swiglu_forward(ctx.on, swiglu, gate_up, activated);
  return activated;
}

/// state.down = down(swiglu(gate(x), up(x))), slot by slot.
void feed_forward(const LayerContext& ctx, const ExpertViews& weights, const ExpertInput& input, ExpertState& state,
                  const SwigluOptions& swiglu) {
  state.gate_up = ctx.activation({input.slots, weights.gate_up.extent(1)});
  {
    const Tensor gathered = gather(ctx, input, state);
    ctx.ops->grouped_gemm(ctx.on, Transpose::yes, gathered, weights.gate_up, state.offsets, state.gate_up);
  }
  add_bias(ctx, weights.gate_up_bias, state.offsets, state.gate_up);
  const Tensor activated = activate(ctx, state, swiglu);
  state.down = ctx.activation({input.slots, weights.down.extent(1)});
  ctx.ops->grouped_gemm(ctx.on, Transpose::yes, activated, weights.down, state.offsets, state.down);
  add_bias(ctx, weights.down_bias, state.offsets, state.down);
}

/// From the gradient in state.down to the one in state.gate_up.
void activation_backward(const LayerContext& ctx, const ExpertViews& weights, ExpertState& state,
                         const SwigluOptions& swiglu) {
  state.activated = activate(ctx, state, swiglu);
  Tensor gradient = ctx.workspace(state.activated.view().extents());
  ctx.ops->grouped_gemm(ctx.on, Transpose::no, state.down, weights.down, state.offsets, gradient);
  ctx.ops->swiglu_backward(ctx.on, swiglu, state.gate_up, gradient, state.gate_up);
}

}  // namespace

Tensor experts_forward(const LayerContext& ctx, const ExpertViews& weights, const ExpertInput& input,
                       ExpertState& state, const SwigluOptions& swiglu) {
  experts_recompute(ctx, weights, input, state, swiglu);
  Tensor partial = ctx.activation(input.rows.extents());
  ctx.ops->combine_rows(ctx.on, state.down, state.token_slot, input.weights, partial);
  return partial;
}

void experts_recompute(const LayerContext& ctx, const ExpertViews& weights, const ExpertInput& input,
                       ExpertState& state, const SwigluOptions& swiglu) {
  sort_slots(ctx, weights.gate_up.extent(0), input, state);
  feed_forward(ctx, weights, input, state, swiglu);
}

ExpertGradients experts_backward_input(const LayerContext& ctx, const ExpertViews& weights, const ExpertInput& input,
                                       ConstView output_gradient, ExpertState& state, const SwigluOptions& swiglu) {
  ExpertGradients gradients;
  gradients.weights = ctx.activation(ctx.accumulator(), input.weights.extents());
  ctx.ops->combine_rows_backward(ctx.on, state.down, state.token_slot, input.weights, output_gradient, state.down,
                                 gradients.weights);
  activation_backward(ctx, weights, state, swiglu);

  Tensor slot_gradient = ctx.workspace(state.down.view().extents());
  ctx.ops->grouped_gemm(ctx.on, Transpose::no, state.gate_up, weights.gate_up, state.offsets, slot_gradient);
  gradients.rows = ctx.activation(input.rows.extents());
  ctx.ops->combine_rows(ctx.on, slot_gradient, state.token_slot, ConstView(), gradients.rows);
  return gradients;
}

void experts_backward_weight(const LayerContext& ctx, const ExpertInput& input, ExpertState& state,
                             const ExpertViews& gradients) {
  ctx.ops->grouped_gemm_weight_gradient(ctx.on, state.down, state.activated, state.offsets, 1, gradients.down);
  const Tensor gathered = gather(ctx, input, state);
  ctx.ops->grouped_gemm_weight_gradient(ctx.on, state.gate_up, gathered, state.offsets, 1, gradients.gate_up);
  add_bias_gradient(ctx, state.gate_up, state.offsets, gradients.gate_up_bias);
  add_bias_gradient(ctx, state.down, state.offsets, gradients.down_bias);
  state = ExpertState();
}

}  // namespace moesaic
