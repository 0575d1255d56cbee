#include "moesaic/layers/dense.hpp"

#include "moesaic/layers/linear.hpp"

#include <utility>

namespace moesaic {
namespace {

enum : std::size_t { gate_up, down };  // the order of dense_parameters()

struct DenseState : FeedForwardState {
  ConstView input;         ///< [tokens, hidden], the caller's
  Tensor gate_up;          ///< [tokens, 2 * width]; after the input gradient: its gradient
  Tensor activated;        ///< [tokens, width], computed again by the input gradient
  Tensor output_gradient;  ///< [tokens, hidden]
};

void keep_gate_up(const LayerContext& ctx, const FeedForwardViews& weights, ConstView x, DenseState& state) {
  state.input = x;
  state.gate_up = ctx.activation({x.extent(0), weights.dense[gate_up].extent(0)});
  linear_forward(ctx, x, weights.dense[gate_up], state.gate_up);
}

}  // namespace

DenseFeedForward::DenseFeedForward(std::int64_t hidden, std::int64_t width, std::string prefix)
    : hidden_(hidden), width_(width), prefix_(std::move(prefix)) {}

std::vector<ParameterSpec> DenseFeedForward::dense_parameters() const {
  return {{.name = prefix_ + "/gate_up", .shape = {2 * width_, hidden_}, .product = true},
          {.name = prefix_ + "/down", .shape = {hidden_, width_}, .product = true}};
}

Tensor DenseFeedForward::forward(const LayerContext& ctx, const FeedForwardViews& weights, const MicroBatch&,
                                 ConstView x, std::unique_ptr<FeedForwardState>& state) const {
  const std::int64_t tokens = x.extent(0);
  auto own = std::make_unique<DenseState>();
  keep_gate_up(ctx, weights, x, *own);
  Tensor activated = ctx.workspace({tokens, width_});
  ctx.ops->swiglu_forward(ctx.on, SwigluOptions(), own->gate_up, activated);
  Tensor y = ctx.activation({tokens, hidden_});
  linear_forward(ctx, activated, weights.dense[down], y);
  state = std::move(own);
  return y;
}

void DenseFeedForward::forget(FeedForwardState& state) const { static_cast<DenseState&>(state) = DenseState(); }

void DenseFeedForward::recompute(const LayerContext& ctx, const FeedForwardViews& weights, ConstView x,
                                 FeedForwardState& state) const {
  keep_gate_up(ctx, weights, x, static_cast<DenseState&>(state));
}

Tensor DenseFeedForward::backward_input(const LayerContext& ctx, const FeedForwardViews& weights,
                                        ConstView output_gradient, FeedForwardState& state) const {
  auto& own = static_cast<DenseState&>(state);
  const std::int64_t tokens = own.input.extent(0);
  own.output_gradient = kept_copy(ctx, output_gradient);
  own.activated = ctx.activation({tokens, width_});
  ctx.ops->swiglu_forward(ctx.on, SwigluOptions(), own.gate_up, own.activated);
  {
    Tensor gradient = ctx.workspace({tokens, width_});
    linear_backward_input(ctx, output_gradient, weights.dense[down], 0, gradient);
    ctx.ops->swiglu_backward(ctx.on, SwigluOptions(), own.gate_up, gradient, own.gate_up);
  }
  Tensor x_gradient = ctx.activation({tokens, hidden_});
  linear_backward_input(ctx, own.gate_up, weights.dense[gate_up], 0, x_gradient);
  return x_gradient;
}

void DenseFeedForward::backward_weight(const LayerContext& ctx, FeedForwardState& state,
                                       const FeedForwardViews& gradients) const {
  auto& own = static_cast<DenseState&>(state);
  linear_backward_weight(ctx, own.gate_up, own.input, gradients.dense[gate_up]);
  linear_backward_weight(ctx, own.output_gradient, own.activated, gradients.dense[down]);
  own = DenseState();
}

}  // namespace moesaic
