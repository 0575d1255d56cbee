#pragma once
/// What every layer is handed: operators, where to run them, where memory comes from, and what to keep in it.

#include "moesaic/kernels/operators.hpp"
#include "moesaic/layers/recompute.hpp"

namespace moesaic {

struct LayerContext {
  const Operators* ops = nullptr;
  OperatorContext on;                     ///< first argument of every operator
  DType type = DType::f32;                ///< storage of weights and activations
  Recompute recompute = Recompute::none;  ///< what transformer blocks do not keep
  /// The experts' weight gradients are the first since they were zeroed: those that are products (ParameterSpec::product)
  /// may be anything and are replaced, the others are added to.
  bool gradients_begin = false;
  /// The same of all other parameters.
  bool dense_gradients_begin = false;

  DType accumulator() const { return accumulator_of(type); }
  /// Memory that lives from forward to backward.
  Tensor activation(Extents extents) const { return on.arena->tensor(type, extents, Label::activations); }
  Tensor activation(DType dtype, Extents extents) const { return on.arena->tensor(dtype, extents, Label::activations); }
  /// Memory that is given back before the layer returns.
  Tensor workspace(Extents extents) const { return on.arena->tensor(type, extents, Label::workspace); }
  Tensor workspace(DType dtype, Extents extents) const { return on.arena->tensor(dtype, extents, Label::workspace); }
};

}  // namespace moesaic
