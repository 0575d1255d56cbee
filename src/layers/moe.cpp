#include "moesaic/layers/moe.hpp"

#include <utility>

namespace moesaic {
namespace {

ExpertViews expert_views(const FeedForwardViews& views) {
  return {.gate_up = views.experts[0], .down = views.experts[1]};
}

}  // namespace

MoeLayer::MoeLayer(const MoeSpec& spec, std::string prefix, ExpertExchange& exchange, StatisticsExchange* statistics,
                   const MoeAccounts& accounts)
    : spec_(spec), prefix_(std::move(prefix)), exchange_(exchange), router_(spec, statistics, accounts) {}

std::vector<ParameterSpec> MoeLayer::dense_parameters() const {
  return {{prefix_ + "/router", {spec_.experts, spec_.hidden}}};
}

std::vector<ParameterSpec> MoeLayer::expert_parameters() const {
  return {{prefix_ + "/experts/gate_up", {spec_.experts, 2 * spec_.width, spec_.hidden}},
          {prefix_ + "/experts/down", {spec_.experts, spec_.hidden, spec_.width}}};
}

Tensor MoeLayer::forward(const LayerContext& ctx, const FeedForwardViews& weights, const MicroBatch& batch, ConstView x,
                         std::unique_ptr<FeedForwardState>& state) const {
  auto own = std::make_unique<MoeState>();
  router_.forward(ctx, weights.dense[0], batch, x, own->router);
  initiate_dispatch(ctx, x, *own);
  router_.account(ctx, batch, own->router);  // while the tokens travel
  own->expert_input = &own->passage->complete_dispatch();
  own->passage->initiate_combine(experts_forward(ctx, expert_views(weights), *own->expert_input, own->experts));
  Tensor y = own->passage->complete_combine();
  state = std::move(own);
  return y;
}

void MoeLayer::initiate_dispatch(const LayerContext& ctx, ConstView x, MoeState& state) const {
  state.input = x;
  const Routing& routing = state.router.routing;
  state.passage = exchange_.begin(ctx, routing.indices, routing.weights, spec_.experts);
  state.passage->initiate_dispatch(x);
}

void MoeLayer::forget(FeedForwardState& state) const {
  auto& own = static_cast<MoeState&>(state);
  own.experts = ExpertState();
  own.expert_input = nullptr;
  own.passage.reset();
  own.input = ConstView();
}

void MoeLayer::recompute(const LayerContext& ctx, const FeedForwardViews& weights, ConstView x,
                         FeedForwardState& state) const {
  auto& own = static_cast<MoeState&>(state);
  initiate_dispatch(ctx, x, own);
  own.expert_input = &own.passage->complete_dispatch();
  experts_recompute(ctx, expert_views(weights), *own.expert_input, own.experts);
}

Tensor MoeLayer::backward_input(const LayerContext& ctx, const FeedForwardViews& weights, ConstView output_gradient,
                                FeedForwardState& state) const {
  auto& own = static_cast<MoeState&>(state);
  own.passage->initiate_combine_backward(output_gradient);
  const ConstView partial_gradient = own.passage->complete_combine_backward();
  ExpertGradients gradients =
      experts_backward_input(ctx, expert_views(weights), *own.expert_input, partial_gradient, own.experts);
  own.passage->initiate_dispatch_backward(std::move(gradients.rows), std::move(gradients.weights));
  RoutedGradients routed = own.passage->complete_dispatch_backward();
  router_.backward_input(ctx, weights.dense[0], routed.weights, routed.hidden, own.router);
  return std::move(routed.hidden);
}

void MoeLayer::backward_weight(const LayerContext& ctx, FeedForwardState& state,
                               const FeedForwardViews& gradients) const {
  auto& own = static_cast<MoeState&>(state);
  experts_backward_weight(ctx, *own.expert_input, own.experts, expert_views(gradients));
  own.expert_input = nullptr;
  own.passage.reset();
  router_.backward_weight(ctx, own.input, own.router, gradients.dense[0]);
}

}  // namespace moesaic
