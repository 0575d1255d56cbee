#pragma once
/// Dense SwiGLU feed-forward.

#include <string>

#include "moesaic/layers/feed_forward.hpp"

namespace moesaic {

/// down(silu(gate(x)) * up(x)); `prefix`/gate_up [2 * width, hidden] (rows of gate, then of up), `prefix`/down [hidden, width].
class DenseFeedForward : public FeedForward {
 public:
  DenseFeedForward(std::int64_t hidden, std::int64_t width, std::string prefix);

  std::vector<ParameterSpec> dense_parameters() const override;
  std::vector<ParameterSpec> expert_parameters() const override { return {}; }

  Tensor forward(const LayerContext&, const FeedForwardViews& weights, const MicroBatch&, ConstView x,
                 std::unique_ptr<FeedForwardState>& state) const override;
  void forget(FeedForwardState& state) const override;
  void recompute(const LayerContext&, const FeedForwardViews& weights, ConstView x,
                 FeedForwardState& state) const override;
  Tensor backward_input(const LayerContext&, const FeedForwardViews& weights, ConstView output_gradient,
                        FeedForwardState& state) const override;
  void backward_weight(const LayerContext&, FeedForwardState& state, const FeedForwardViews& gradients) const override;

 private:
  std::int64_t hidden_, width_;
  std::string prefix_;
};

}  // namespace moesaic
