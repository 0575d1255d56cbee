#pragma once
/// The router of a MoE layer: which experts a token goes to, with what weight, and what balances them.

#include "moesaic/layers/context.hpp"
#include "moesaic/layers/expert_exchange.hpp"
#include "moesaic/layers/micro_batch.hpp"
#include "moesaic/layers/moe_spec.hpp"

namespace moesaic {

/// Where each token goes: a value of its own, so that it can be exchanged, and replayed by recompute.
struct Routing {
  Tensor probabilities;  ///< accumulator type [tokens, experts]; absent with the balanced router
  Tensor indices;        ///< i32 [tokens, top_k], over all experts
  Tensor weights;        ///< accumulator type [tokens, top_k]
};

struct RouterState {
  Routing routing;
  Tensor counts;            ///< i64 [groups, experts], the statistics, from forward to account
  Tensor probability_sums;  ///< accumulator type [groups, experts], likewise
  Tensor balance_gradient;  ///< accumulator type [groups, experts]; absent unless balanced by auxiliary loss
  Tensor logits_gradient;   ///< storage type [tokens, experts], from the input gradient to the weight gradient
};

/// Views of the router's parameters, or of their gradients.
struct RouterViews {
  View weight;     ///< [experts, hidden]
  View bias = {};  ///< [experts]; absent: none
};

class Router {
 public:
  /// `statistics`: of the spec's scope; null: no other rank shares a sequence or micro-batch.
  Router(const MoeSpec& spec, StatisticsExchange* statistics, const MoeAccounts& accounts)
      : spec_(spec), statistics_(statistics), accounts_(accounts) {}

  /// Sets state.routing and its statistics. x: [tokens, hidden].
  void forward(const LayerContext&, const RouterViews& weights, const MicroBatch&, ConstView x,
               RouterState& state) const;

  /// Adds the routing to the load and, for a learned router, its auxiliary loss; balanced by auxiliary loss, keeps that
  /// loss's gradient. This exchanges statistics, with zero tokens too.
  void account(const LayerContext&, const MicroBatch&, RouterState& state) const;

  /// Adds to x_gradient what reaches x through the routing weights and the auxiliary loss.
  void backward_input(const LayerContext&, const RouterViews& weights, ConstView weights_gradient, View x_gradient,
                      RouterState& state) const;

  /// Adds to `gradients` (accumulator type) those that backward_input left; x as in forward.
  void backward_weight(const LayerContext&, ConstView x, RouterState& state, const RouterViews& gradients) const;

 private:
  RouterOptions options() const;
  void route_learned(const LayerContext&, const RouterViews& weights, ConstView x, RouterState&) const;
  void route_balanced(const LayerContext&, const MicroBatch&, RouterState&) const;
  void count_load(const LayerContext&, ConstView counts) const;
  void balance(const LayerContext&, const MicroBatch&, RouterState&) const;

  MoeSpec spec_;
  StatisticsExchange* statistics_;
  MoeAccounts accounts_;
};

}  // namespace moesaic
