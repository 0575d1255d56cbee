#pragma once
/// What every operator is handed besides its arguments.

#include "moesaic/tensor/arena.hpp"
#include "moesaic/tensor/stream.hpp"

namespace moesaic {

/// Orders the work (stream) and lends scratch memory (arena, Label::workspace, given back before the operator returns).
///
/// Rules that hold for all operators unless their text says otherwise: outputs are overwritten, whatever they held;
/// floating-point arguments share one storage type; statistics, router values and losses are stored in the accumulator
/// type (f32 for bf16 and f32, f64 for f64); extents of zero are legal; the result depends on the arguments alone,
/// never on the number of threads; nothing synchronises with the host.
struct OperatorContext {
  Stream stream;
  Arena* arena = nullptr;
  /// Equal arguments give equal bits; false lets an operator (the backward of attention) be faster instead.
  bool deterministic = true;
};

/// The type in which sums over elements of `type` are kept.
constexpr DType accumulator_of(DType type) { return type == DType::f64 ? DType::f64 : DType::f32; }

}  // namespace moesaic
