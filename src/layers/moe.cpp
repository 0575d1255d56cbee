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
    : spec_(spec), prefix_(std::move(prefix)), exchange_(exchange), router_(spec, statistics, accounts),
      overflow_(accounts.overflow) {
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
  std::vector<ParameterSpec> parameters{
      {.name = experts + "/gate_up", .shape = {spec_.experts, 2 * spec_.width, spec_.hidden}, .product = true},
      {.name = experts + "/down", .shape = {spec_.experts, spec_.hidden, spec_.width}, .product = true}};
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
  if (const auto overflow = own->passage->overflow()) begin_rounds(batch, *overflow, *own);
  router_.account(ctx, batch, own->router);  // while the tokens travel
  Tensor shared;
  if (shared_) shared = shared_->forward(ctx, shared_views(weights), batch, x, own->shared);
  Tensor y = run_experts(ctx, weights, *own);
  if (shared_) ctx.ops->accumulate(ctx.on, shared, y);
  state = std::move(own);
  return y;
}

FeedForwardViews MoeLayer::shared_views(const FeedForwardViews& views) const {
  return {.dense = views.dense.last(shared_->dense_parameters().size()), .experts = {}};
}

void MoeLayer::initiate_dispatch(const LayerContext& ctx, ConstView x, MoeState& state) const {
  state.input = x;
  if (state.rounds) return;
  const Routing& routing = state.router.routing;
  state.passage = exchange_.begin(ctx, routing.indices, routing.weights, spec_.experts);
  if (!state.passage->overflow()) state.passage->initiate_dispatch(x);
}

void MoeLayer::begin_rounds(const MicroBatch& batch, ExpertOverflow overflow, MoeState& state) const {
  if (batch.divisible) overflow.rounds = 0;
  if (overflow_ && (!*overflow_ || overflow.fullness() > (*overflow_)->fullness())) *overflow_ = overflow;
  const Routing& routing = state.router.routing;
  state.rounds.emplace(exchange_, overflow, routing.indices, routing.weights, spec_.experts);
  state.passage.reset();
}

Tensor MoeLayer::run_experts(const LayerContext& ctx, const FeedForwardViews& weights, MoeState& state) const {
  if (state.rounds) return state.rounds->forward(ctx, expert_views(weights), spec_.swiglu, state.input);
  state.expert_input = &state.passage->complete_dispatch();
  state.passage->initiate_combine(
      experts_forward(ctx, expert_views(weights), *state.expert_input, state.experts, spec_.swiglu));
  return state.passage->complete_combine();
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
  if (own.rounds) return;  // the input gradient computes again
  own.expert_input = &own.passage->complete_dispatch();
  experts_recompute(ctx, expert_views(weights), *own.expert_input, own.experts, spec_.swiglu);
}

Tensor MoeLayer::backward_input(const LayerContext& ctx, const FeedForwardViews& weights, ConstView output_gradient,
                                FeedForwardState& state) const {
  auto& own = static_cast<MoeState&>(state);
  if (!own.rounds) own.passage->initiate_combine_backward(output_gradient);
  Tensor shared;
  if (shared_) shared = shared_->backward_input(ctx, shared_views(weights), output_gradient, *own.shared);
  RoutedGradients routed = experts_gradient(ctx, weights, output_gradient, own);
  if (shared_) ctx.ops->accumulate(ctx.on, shared, routed.hidden);
  router_.backward_input(ctx, router_views(spec_, weights), routed.weights, routed.hidden, own.router);
  return std::move(routed.hidden);
}

RoutedGradients MoeLayer::experts_gradient(const LayerContext& ctx, const FeedForwardViews& weights,
                                           ConstView output_gradient, MoeState& state) const {
  const ExpertViews views = expert_views(weights);
  if (state.rounds) return state.rounds->backward_input(ctx, views, spec_.swiglu, state.input, output_gradient);
  ExpertGradients gradients = experts_backward_input(
      ctx, views, *state.expert_input, state.passage->complete_combine_backward(), state.experts, spec_.swiglu);
  state.passage->initiate_dispatch_backward(std::move(gradients.rows), std::move(gradients.weights));
  return state.passage->complete_dispatch_backward();
}

void MoeLayer::add_expert_gradients(const LayerContext& ctx, const ExpertViews& gradients, MoeState& state) const {
  if (state.rounds)
    state.rounds->backward_weight(ctx, gradients);
  else
    experts_backward_weight(ctx, *state.expert_input, state.experts, gradients);
  state.rounds.reset();
  state.expert_input = nullptr;
  state.passage.reset();
}

void MoeLayer::backward_weight(const LayerContext& ctx, FeedForwardState& state,
                               const FeedForwardViews& gradients) const {
  auto& own = static_cast<MoeState&>(state);
  add_expert_gradients(ctx, expert_views(gradients), own);
  router_.backward_weight(ctx, own.input, own.router, router_views(spec_, gradients));
  if (!shared_) return;
  shared_->backward_weight(ctx, *own.shared, shared_views(gradients));
  own.shared.reset();
}

}  // namespace moesaic
