#include "moesaic/layers/moe.hpp"

#include <utility>

namespace moesaic {
namespace {

ExpertViews expert_views(const FeedForwardViews& views) {
  const bool bias = views.experts.size() > 2;
  return {.gate_up = views.experts[0],
          .down = views.experts[1],
          .gate_up_bias = bias ? views.experts[2] : View(),
          .down_bias = bias ? views.experts[3] : View()};
}

RouterViews router_views(const MoeSpec& spec, const FeedForwardViews& views) {
  return {.weight = views.dense[0], .bias = spec.bias ? views.dense[1] : View()};
}

}  // namespace

MoeLayer::MoeLayer(const MoeSpec& spec, std::string prefix, ExpertExchange& exchange, StatisticsExchange* statistics,
                   const MoeAccounts& accounts)
    : spec_(spec), prefix_(std::move(prefix)), exchange_(exchange), router_(spec, statistics, accounts) {
  if (spec.shared_width > 0) shared_.emplace(spec.hidden, spec.shared_width, prefix_ + "/shared");
}

std::vector<ParameterSpec> MoeLayer::dense_parameters() const {
  std::vector<ParameterSpec> parameters{{prefix_ + "/router", {spec_.experts, spec_.hidden}}};
  if (spec_.bias) parameters.push_back({prefix_ + "/router_bias", {spec_.experts}, Initialisation::zeros, false});
  if (!shared_) return parameters;
  for (const ParameterSpec& parameter : shared_->dense_parameters()) parameters.push_back(parameter);
  return parameters;
}

std::vector<ParameterSpec> MoeLayer::expert_parameters() const {
  const std::string experts = prefix_ + "/experts";
  std::vector<ParameterSpec> parameters{{experts + "/gate_up", {spec_.experts, 2 * spec_.width, spec_.hidden}},
                                        {experts + "/down", {spec_.experts, spec_.hidden, spec_.width}}};
  if (!spec_.bias) return parameters;
  parameters.push_back({experts + "/gate_up_bias", {spec_.experts, 2 * spec_.width}, Initialisation::zeros, false});
  parameters.push_back({experts + "/down_bias", {spec_.experts, spec_.hidden}, Initialisation::zeros, false});
  return parameters;
}

Tensor MoeLayer::forward(const LayerContext& ctx, const FeedForwardViews& weights, const MicroBatch& batch, ConstView x,
                         std::unique_ptr<FeedForwardState>& state) const {
  auto own = std::make_unique<MoeState>();
  router_.forward(ctx, router_views(spec_, weights), batch, x, own->router);
  initiate_dispatch(ctx, x, *own);
  router_.account(ctx, batch, own->router);  // while the tokens travel
  Tensor shared;
  if (shared_) shared = shared_->forward(ctx, shared_views(weights), batch, x, own->shared);
  own->expert_input = &own->passage->complete_dispatch();
  own->passage->initiate_combine(
      experts_forward(ctx, expert_views(weights), *own->expert_input, own->experts, spec_.swiglu));
  Tensor y = own->passage->complete_combine();
  if (shared_) ctx.ops->accumulate(ctx.on, shared, y);
  state = std::move(own);
  return y;
}

FeedForwardViews MoeLayer::shared_views(const FeedForwardViews& views) const {
  return {.dense = views.dense.last(shared_->dense_parameters().size()), .experts = {}};
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
  if (shared_) shared_->forget(*own.shared);
  own.expert_input = nullptr;
  own.passage.reset();
  own.input = ConstView();
}

void MoeLayer::recompute(const LayerContext& ctx, const FeedForwardViews& weights, ConstView x,
                         FeedForwardState& state) const {
  auto& own = static_cast<MoeState&>(state);
  initiate_dispatch(ctx, x, own);
  if (shared_) shared_->recompute(ctx, shared_views(weights), x, *own.shared);
  own.expert_input = &own.passage->complete_dispatch();
  experts_recompute(ctx, expert_views(weights), *own.expert_input, own.experts, spec_.swiglu);
}

Tensor MoeLayer::backward_input(const LayerContext& ctx, const FeedForwardViews& weights, ConstView output_gradient,
                                FeedForwardState& state) const {
  auto& own = static_cast<MoeState&>(state);
  own.passage->initiate_combine_backward(output_gradient);
  Tensor shared;
  if (shared_) shared = shared_->backward_input(ctx, shared_views(weights), output_gradient, *own.shared);
  const ConstView partial_gradient = own.passage->complete_combine_backward();
  ExpertGradients gradients = experts_backward_input(ctx, expert_views(weights), *own.expert_input, partial_gradient,
                                                     own.experts, spec_.swiglu);
  own.passage->initiate_dispatch_backward(std::move(gradients.rows), std::move(gradients.weights));
  RoutedGradients routed = own.passage->complete_dispatch_backward();
  if (shared_) ctx.ops->accumulate(ctx.on, shared, routed.hidden);
  router_.backward_input(ctx, router_views(spec_, weights), routed.weights, routed.hidden, own.router);
  return std::move(routed.hidden);
}

void MoeLayer::backward_weight(const LayerContext& ctx, FeedForwardState& state,
                               const FeedForwardViews& gradients) const {
  auto& own = static_cast<MoeState&>(state);
  experts_backward_weight(ctx, *own.expert_input, own.experts, expert_views(gradients));
  own.expert_input = nullptr;
  own.passage.reset();
  router_.backward_weight(ctx, own.input, own.router, router_views(spec_, gradients));
  if (!shared_) return;
  shared_->backward_weight(ctx, *own.shared, shared_views(gradients));
  own.shared.reset();
}

}  // namespace moesaic
