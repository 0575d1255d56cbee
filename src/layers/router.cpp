#include "moesaic/layers/router.hpp"

#include "moesaic/layers/linear.hpp"

#include <utility>

namespace moesaic {
namespace {

/// What statistics are taken of: the balanced router has no probabilities, all experts are alike to it.
Tensor uniform_probabilities(const LayerContext& ctx, std::int64_t tokens, std::int64_t experts) {
  Tensor probabilities = ctx.workspace(ctx.accumulator(), {tokens, experts});
  ctx.ops->fill(ctx.on, 1 / static_cast<double>(experts), probabilities);
  return probabilities;
}

/// The logits are of the accumulator type, and the operator wants the bias to be as well.
void add_router_bias(const LayerContext& ctx, const View& bias, View logits) {
  const Tensor converted = ctx.workspace(ctx.accumulator(), {1, bias.size()});
  ctx.ops->copy(ctx.on, bias.reshape({1, bias.size()}), converted);
  ctx.ops->add_bias(ctx.on, converted, {}, logits);
}

}  // namespace

RouterOptions Router::options() const {
  return {.top_k = spec_.top_k,
          .renormalise = spec_.renormalise,
          .scores = spec_.scores,
          .groups = spec_.groups,
          .top_groups = spec_.top_groups,
          .scale = spec_.scale};
}

void Router::forward(const LayerContext& ctx, const RouterViews& weights, const MicroBatch& batch, ConstView x,
                     RouterState& state) const {
  const Extents slots{x.extent(0), spec_.top_k};
  state.routing.indices = ctx.activation(DType::i32, slots);
  state.routing.weights = ctx.activation(ctx.accumulator(), slots);
  const bool by_sequence = spec_.scope == BalanceScope::sequence && !spec_.balanced_router;
  const Extents statistics{by_sequence ? batch.sequences : 1, spec_.experts};
  state.counts = ctx.activation(DType::i64, statistics);
  state.probability_sums = ctx.activation(ctx.accumulator(), statistics);
  if (spec_.balanced_router) {
    route_balanced(ctx, batch, state);
  } else {
    route_learned(ctx, weights, x, state);
  }
}

void Router::route_learned(const LayerContext& ctx, const RouterViews& weights, ConstView x, RouterState& state) const {
  Routing& routing = state.routing;
  routing.probabilities = ctx.activation(ctx.accumulator(), {x.extent(0), spec_.experts});
  linear_forward(ctx, x, weights.weight, routing.probabilities);
  if (!weights.bias.absent()) add_router_bias(ctx, weights.bias, routing.probabilities);
  ctx.ops->router_forward(ctx.on, options(), routing.probabilities, accounts_.selection_bias, routing.probabilities,
                          routing.indices, routing.weights, state.counts, state.probability_sums);
}

void Router::route_balanced(const LayerContext& ctx, const MicroBatch& batch, RouterState& state) const {
  const Routing& routing = state.routing;
  ctx.ops->balanced_routing(ctx.on, batch.positions, spec_.experts, routing.indices, routing.weights);
  const Tensor uniform = uniform_probabilities(ctx, batch.tokens(), spec_.experts);
  ctx.ops->router_statistics(ctx.on, RouterScores::softmax, uniform, routing.indices, state.counts,
                             state.probability_sums);
}

void Router::account(const LayerContext& ctx, const MicroBatch& batch, RouterState& state) const {
  count_load(ctx, state.counts);
  if (!spec_.balanced_router) balance(ctx, batch, state);
  state.counts.reset();
  state.probability_sums.reset();
}

void Router::count_load(const LayerContext& ctx, ConstView counts) const {
  for (std::int64_t group = 0; group < counts.extent(0); ++group) {
    ctx.ops->accumulate(ctx.on, counts.rows(group, group + 1), accounts_.load);
  }
}

void Router::balance(const LayerContext& ctx, const MicroBatch& batch, RouterState& state) const {
  const bool by_batch = spec_.scope == BalanceScope::batch;
  if (statistics_ != nullptr) statistics_->sum(state.counts, state.probability_sums);
  Tensor loss = ctx.workspace(ctx.accumulator(), {1});
  Tensor gradient = ctx.activation(ctx.accumulator(), state.probability_sums.view().extents());
  ctx.ops->balance_loss(ctx.on, state.counts, state.probability_sums,
                        by_batch ? batch.balance_tokens : batch.sequence_length(), spec_.top_k, batch.balance_gradient,
                        loss, gradient);
  ctx.ops->scale(ctx.on, batch.balance_weight, loss);
  ctx.ops->accumulate(ctx.on, loss, accounts_.auxiliary_loss);
  if (spec_.balance == Balance::auxiliary) state.balance_gradient = std::move(gradient);
}

void Router::backward_input(const LayerContext& ctx, const RouterViews& weights, ConstView weights_gradient,
                            View x_gradient, RouterState& state) const {
  if (spec_.balanced_router) return;
  Routing& routing = state.routing;
  Tensor gradient = ctx.activation(ctx.accumulator(), routing.probabilities.view().extents());
  ctx.ops->router_backward(ctx.on, options(), routing.probabilities, routing.indices, weights_gradient,
                           state.balance_gradient, gradient);
  routing.probabilities.reset();
  state.balance_gradient.reset();
  state.logits_gradient = to_storage_type(ctx, std::move(gradient));
  linear_backward_input(ctx, state.logits_gradient, weights.weight, 1, x_gradient);
}

void Router::backward_weight(const LayerContext& ctx, ConstView x, RouterState& state,
                             const RouterViews& gradients) const {
  if (!spec_.balanced_router) {
    linear_backward_weight(ctx, state.logits_gradient, x, gradients.weight);
    if (!gradients.bias.absent())
      ctx.ops->bias_gradient(ctx.on, state.logits_gradient, {}, gradients.bias.reshape({1, spec_.experts}));
  }
  state = RouterState();
}

}  // namespace moesaic
