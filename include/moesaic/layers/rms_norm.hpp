#pragma once
/// RMSNorm with its weight: over the hidden dimension, or over each head's width.

#include "moesaic/layers/context.hpp"
#include "moesaic/layers/rotary_table.hpp"

namespace moesaic {

struct RmsNormState {
  Tensor inverse_rms;      ///< from forward to the input gradient
  Tensor weight_gradient;  ///< accumulator type [width], from the input gradient to the weight gradient
};

class RmsNorm {
 public:
  explicit RmsNorm(double eps) : eps_(eps) {}

  /// y = x * r * weight; x, y: [rows, width] or [tokens, heads, width], perhaps strided.
  void forward(const LayerContext&, ConstView weight, ConstView x, View y, RmsNormState& state) const;

  /// x += residual, then y = x * r * weight; x, y, residual: [rows, width].
  void forward_residual(const LayerContext&, ConstView weight, ConstView residual, View x, View y,
                        RmsNormState& state) const;

  /// y = the rotary embedding, by `table` and positions (i32 [tokens]), of x * r * weight; x, y: [tokens, heads, width].
  void forward_rotary(const LayerContext&, ConstView weight, const RotaryTable& table, ConstView positions, ConstView x,
                      View y, RmsNormState& state) const;

  /// x_gradient = beta * x_gradient + the gradient of forward; with beta 0 it may be output_gradient. One pass computes
  /// the weight's gradient too; it waits in `state`.
  void backward_input(const LayerContext&, ConstView weight, ConstView x, ConstView output_gradient, double beta,
                      View x_gradient, RmsNormState& state) const;

  /// In place, the same of forward_rotary: the gradient of y becomes that of x.
  void backward_input_rotary(const LayerContext&, ConstView weight, const RotaryTable& table, ConstView positions,
                             ConstView x, View gradient, RmsNormState& state) const;

  /// weight_gradient += what either of them left.
  void backward_weight(const LayerContext&, RmsNormState& state, View weight_gradient) const;

 private:
  double eps_;
};

}  // namespace moesaic
