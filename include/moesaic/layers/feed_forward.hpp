#pragma once
/// The second half of a transformer block: dense, or a mixture of experts.

#include <memory>
#include <span>
#include <vector>

#include "moesaic/layers/context.hpp"
#include "moesaic/layers/micro_batch.hpp"
#include "moesaic/layers/parameter.hpp"

namespace moesaic {

/// Views of a feed-forward's parameters (or of their gradients), in declared order.
struct FeedForwardViews {
  std::span<const View> dense;
  std::span<const View> experts;
};

class FeedForwardState {
 public:
  virtual ~FeedForwardState() = default;
};

class FeedForward {
 public:
  virtual ~FeedForward() = default;

  /// Parameters that belong to the block's own unit, and those of its experts.
  virtual std::vector<ParameterSpec> dense_parameters() const = 0;
  virtual std::vector<ParameterSpec> expert_parameters() const = 0;

  /// x: [tokens, hidden], must stay alive until backward_weight. Returns [tokens, hidden] and sets `state`.
  virtual Tensor forward(const LayerContext&, const FeedForwardViews& weights, const MicroBatch&, ConstView x,
                         std::unique_ptr<FeedForwardState>& state) const = 0;

  /// Frees what forward left in `state`, but for what may not come out differently a second time (a routing).
  virtual void forget(FeedForwardState& state) const = 0;

  /// Brings back what was forgotten, before backward_input. x: the same values as in forward, must stay alive until
  /// backward_weight. Runs the exchanges that this needs again; counts nothing.
  virtual void recompute(const LayerContext&, const FeedForwardViews& weights, ConstView x,
                         FeedForwardState& state) const = 0;

  /// The gradient of x. output_gradient is free again when this returns.
  virtual Tensor backward_input(const LayerContext&, const FeedForwardViews& weights, ConstView output_gradient,
                                FeedForwardState& state) const = 0;

  /// Adds to `gradients` (accumulator type) and frees what `state` holds.
  virtual void backward_weight(const LayerContext&, FeedForwardState& state,
                               const FeedForwardViews& gradients) const = 0;
};

}  // namespace moesaic
