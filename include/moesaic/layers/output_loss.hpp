#pragma once
/// From hidden states to a loss: norm, logits over the vocabulary, cross entropy.

#include "moesaic/layers/rms_norm.hpp"

namespace moesaic {

/// From forward to the end of backward; `losses` and `loss_sum` stay.
struct OutputState {
  Tensor losses;    ///< accumulator type [tokens], 0 where the label does not count
  Tensor loss_sum;  ///< f64 [1], not scaled
  Tensor logits;    ///< [tokens, vocabulary]; after loss_backward: their gradient

  Tensor input;        ///< [tokens, hidden]
  Tensor normalised;   ///< [tokens, hidden]
  Tensor log_sum_exp;  ///< accumulator type [tokens]
  RmsNormState norm;
};

/// Weights, or their gradients.
struct OutputViews {
  View norm;   ///< [hidden]
  View table;  ///< [vocabulary, hidden]
};

/// logits = table norm(hidden), labels as in MicroBatch.
class OutputLoss {
 public:
  explicit OutputLoss(double norm_eps) : norm_(norm_eps) {}

  void forward(const LayerContext&, const OutputViews& weights, ConstView labels, Tensor hidden,
               OutputState& state) const;

  /// The gradient of scale * loss_sum with respect to `normalised`.
  Tensor loss_backward(const LayerContext&, const OutputViews& weights, ConstView labels, double scale,
                       OutputState& state) const;
  /// The gradient of the input from that of `normalised`.
  Tensor norm_backward(const LayerContext&, const OutputViews& weights, Tensor gradient, OutputState& state) const;

  /// Adds to `gradients` (accumulator type) what both left.
  void backward_weight(const LayerContext&, OutputState& state, const OutputViews& gradients) const;

 private:
  RmsNorm norm_;
};

}  // namespace moesaic
