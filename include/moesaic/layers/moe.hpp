#pragma once
/// Mixture-of-experts feed-forward: router, dispatch, grouped SwiGLU experts, weighted combination.

#include <memory>
#include <optional>
#include <string>

#include "moesaic/layers/dense.hpp"
#include "moesaic/layers/expert_rounds.hpp"
#include "moesaic/layers/feed_forward.hpp"
#include "moesaic/layers/moe_spec.hpp"
#include "moesaic/layers/router.hpp"

namespace moesaic {

/// What forward leaves for backward. The passage reads the routing: it must go first.
struct MoeState : FeedForwardState {
  ConstView input;  ///< [tokens, hidden], the caller's
  RouterState router;
  ExpertState experts;
  std::unique_ptr<ExpertPassage> passage;
  const ExpertInput* expert_input = nullptr;  ///< the passage's
  std::optional<ExpertRounds> rounds;         ///< instead of these three, where receive buffers overflow
  std::unique_ptr<FeedForwardState> shared;
};

/// y[t] = sum over the chosen experts e of weight[t,e] * down_e(swiglu(gate_e(x[t]), up_e(x[t]))), plus the shared expert's
/// (DeepSeekMoE, arXiv 2401.06066), a dense feed-forward that is computed while tokens and gradients travel.
/// Parameters: `prefix`/router [experts, hidden]; of the experts `prefix`/experts/gate_up [experts, 2 * width, hidden]
/// (rows of gate, then of up) and `prefix`/experts/down [experts, hidden, width]; with biases `prefix`/router_bias [experts],
/// `prefix`/experts/gate_up_bias [experts, 2 * width] and `prefix`/experts/down_bias [experts, hidden]; `prefix`/shared/gate_up
/// and `prefix`/shared/down as DenseFeedForward.
class MoeLayer : public FeedForward {
 public:
  /// `exchange` and `statistics` (null: nobody to share with) must outlive the layer.
  MoeLayer(const MoeSpec& spec, std::string prefix, ExpertExchange& exchange, StatisticsExchange* statistics,
           const MoeAccounts& accounts);

  std::vector<ParameterSpec> dense_parameters() const override;
  std::vector<ParameterSpec> expert_parameters() const override;

  Tensor forward(const LayerContext&, const FeedForwardViews& weights, const MicroBatch&, ConstView x,
                 std::unique_ptr<FeedForwardState>& state) const override;
  void forget(FeedForwardState& state) const override;
  void recompute(const LayerContext&, const FeedForwardViews& weights, ConstView x,
                 FeedForwardState& state) const override;
  Tensor backward_input(const LayerContext&, const FeedForwardViews& weights, ConstView output_gradient,
                        FeedForwardState& state) const override;
  void backward_weight(const LayerContext&, FeedForwardState& state, const FeedForwardViews& gradients) const override;

 private:
  /// Sends x on its way along the routing in `state`, unless it needs rounds.
  void initiate_dispatch(const LayerContext&, ConstView x, MoeState& state) const;
  /// The passage does not hold what it would carry.
  void begin_rounds(const MicroBatch&, ExpertOverflow overflow, MoeState& state) const;
  /// What comes of x at its experts, from where initiate_dispatch left it.
  Tensor run_experts(const LayerContext&, const FeedForwardViews& weights, MoeState& state) const;
  /// Gradients of what the experts were given, once shared experts have been served.
  RoutedGradients experts_gradient(const LayerContext&, const FeedForwardViews& weights, ConstView output_gradient,
                                   MoeState& state) const;
  void add_expert_gradients(const LayerContext&, const ExpertViews& gradients, MoeState& state) const;
  /// The last of the dense parameters.
  FeedForwardViews shared_views(const FeedForwardViews& views) const;

  MoeSpec spec_;
  std::string prefix_;
  ExpertExchange& exchange_;
  Router router_;
  std::optional<ExpertOverflow>* overflow_;  ///< where it is noted; null: nobody asks
  std::optional<DenseFeedForward> shared_;
};

}  // namespace moesaic
