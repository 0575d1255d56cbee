#include "moesaic/layers/experts.hpp"

#include "moesaic/layers/linear.hpp"

namespace moesaic {
namespace {

void sort_slots(const LayerContext& ctx, std::int64_t experts, const ExpertInput& input, ExpertState& state) {
  state.offsets = ctx.activation(DType::i64, {experts + 1});
  state.slot_token = ctx.activation(DType::i32, {input.indices.size()});
  state.token_slot = ctx.activation(DType::i32, input.indices.extents());
  ctx.ops->sort_by_key(ctx.on, input.indices, state.offsets, state.slot_token, state.token_slot);
}

/// Sets all of `state` that forward leaves to backward, but for what expert_up computes.
void prepare(const LayerContext& ctx, const ExpertViews& weights, const ExpertInput& input, ExpertState& state) {
  sort_slots(ctx, weights.gate_up.extent(0), input, state);
  state.gate_up = ctx.activation({input.slots, weights.gate_up.extent(1)});
}

/// Sets state.gate_up, and `activated` where it is there.
void project_up(const LayerContext& ctx, const ExpertViews& weights, const ExpertInput& input,
                const SwigluOptions& swiglu, const ExpertState& state, View activated) {
  ctx.ops->expert_up(ctx.on, swiglu, input.rows, state.slot_token, weights.gate_up, weights.gate_up_bias, state.offsets,
                     state.gate_up, activated);
}

/// The sum of each expert's share of the gradient, weighted.
void add_down_bias_gradient(const LayerContext& ctx, const ExpertInput& input, const ExpertState& state,
                            View gradient) {
  Tensor weighted = ctx.workspace({input.slots, gradient.extent(1)});
  ctx.ops->combine_rows_backward(ctx.on, {}, state.token_slot, input.weights, state.output_gradient, weighted, {});
  ctx.ops->bias_gradient(ctx.on, weighted, state.offsets, gradient);
}

}  // namespace

Tensor experts_forward(const LayerContext& ctx, const ExpertViews& weights, const ExpertInput& input,
                       ExpertState& state, const SwigluOptions& swiglu) {
  prepare(ctx, weights, input, state);
  Tensor partial = ctx.activation(input.rows.extents());
  const Tensor down = ctx.workspace({input.slots, weights.down.extent(1)});
  {
    const Tensor activated = ctx.workspace({input.slots, weights.down.extent(2)});
    project_up(ctx, weights, input, swiglu, state, activated);
    ctx.ops->grouped_gemm(ctx.on, Transpose::yes, activated, weights.down, state.offsets, down);
  }
  if (!weights.down_bias.absent()) ctx.ops->add_bias(ctx.on, weights.down_bias, state.offsets, down);
  ctx.ops->combine_rows(ctx.on, down, state.token_slot, input.weights, partial);
  return partial;
}

void experts_recompute(const LayerContext& ctx, const ExpertViews& weights, const ExpertInput& input,
                       ExpertState& state, const SwigluOptions& swiglu) {
  prepare(ctx, weights, input, state);
  project_up(ctx, weights, input, swiglu, state, View());
}

ExpertGradients experts_backward_input(const LayerContext& ctx, const ExpertViews& weights, const ExpertInput& input,
                                       ConstView output_gradient, ExpertState& state, const SwigluOptions& swiglu) {
  ExpertGradients gradients;
  gradients.weights = ctx.activation(ctx.accumulator(), input.weights.extents());
  state.output_gradient = kept_copy(ctx, output_gradient);
  state.activated = ctx.activation({input.slots, weights.down.extent(2)});
  const SlotRouting routing{state.offsets, state.slot_token, state.token_slot, input.weights};
  ctx.ops->expert_down_backward(ctx.on, swiglu, routing, output_gradient, weights.down, weights.down_bias,
                                state.gate_up, state.activated, gradients.weights);

  gradients.rows = ctx.activation(input.rows.extents());
  const Tensor slot_gradient = ctx.workspace({input.slots, input.rows.extent(1)});
  ctx.ops->grouped_gemm(ctx.on, Transpose::no, state.gate_up, weights.gate_up, state.offsets, slot_gradient);
  ctx.ops->combine_rows(ctx.on, slot_gradient, state.token_slot, ConstView(), gradients.rows);
  return gradients;
}

void experts_backward_weight(const LayerContext& ctx, const ExpertInput& input, ExpertState& state,
                             const ExpertViews& gradients) {
  const double beta = ctx.gradients_begin ? 0 : 1;
  const auto add = [&](TokenSide side, ConstView output_gradient, ConstView in, View gradient) {
    ctx.ops->expert_weight_gradient(ctx.on, side, output_gradient, in, state.slot_token, state.offsets, beta, gradient);
  };
  add(TokenSide::output_gradient, state.output_gradient, state.activated, gradients.down);
  add(TokenSide::in, state.gate_up, input.rows, gradients.gate_up);
  if (!gradients.gate_up_bias.absent())
    ctx.ops->bias_gradient(ctx.on, state.gate_up, state.offsets, gradients.gate_up_bias);
  if (!gradients.down_bias.absent()) add_down_bias_gradient(ctx, input, state, gradients.down_bias);
  state = ExpertState();
}

}  // namespace moesaic
