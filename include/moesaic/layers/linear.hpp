#pragma once
/// Products with a weight matrix W [outputs, inputs]: y = x W^T and its two gradients.

#include "moesaic/layers/context.hpp"

namespace moesaic {

/// y [tokens, outputs] = x W^T, x [tokens, inputs].
inline void linear_forward(const LayerContext& ctx, ConstView x, ConstView weight, View y) {
  ctx.ops->gemm(ctx.on, Transpose::no, Transpose::yes, 1, x, weight, 0, y);
}

/// x_gradient [tokens, inputs] = y_gradient W + beta * x_gradient.
inline void linear_backward_input(const LayerContext& ctx, ConstView y_gradient, ConstView weight, double beta,
                                  View x_gradient) {
  ctx.ops->gemm(ctx.on, Transpose::no, Transpose::no, 1, y_gradient, weight, beta, x_gradient);
}

/// weight_gradient [outputs, inputs] (accumulator type) += y_gradient^T x; where gradients begin, it is that. For the only
/// product that a layer adds to a weight.
inline void linear_backward_weight(const LayerContext& ctx, ConstView y_gradient, ConstView x, View weight_gradient) {
  ctx.ops->gemm(ctx.on, Transpose::yes, Transpose::no, 1, y_gradient, x, ctx.dense_gradients_begin ? 0 : 1,
                weight_gradient);
}

/// `values` in the storage type of activations: the tensor itself when it has that type already.
inline Tensor to_storage_type(const LayerContext& ctx, Tensor values) {
  if (values.view().dtype() == ctx.type) return values;
  Tensor converted = ctx.activation(values.view().extents());
  ctx.ops->copy(ctx.on, values, converted);
  return converted;
}

/// A copy that lives from the first half of backward to the second.
inline Tensor kept_copy(const LayerContext& ctx, ConstView values) {
  Tensor copy = ctx.activation(values.dtype(), values.extents());
  ctx.ops->copy(ctx.on, values, copy);
  return copy;
}

}  // namespace moesaic
