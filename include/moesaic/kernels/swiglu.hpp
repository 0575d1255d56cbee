#pragma once
/// Gated linear unit with SiLU (Shazeer 2020, arXiv 2002.05202).

#include "moesaic/kernels/context.hpp"

namespace moesaic {

/// y [rows, width] = silu(gate) * up with gate_up [rows, 2 * width] = [gate | up], silu(z) = z / (1 + exp(-z)).
using SwigluForward = void(const OperatorContext&, ConstView gate_up, View y);

/// gate_up_gradient [rows, 2 * width]; may be gate_up itself.
using SwigluBackward = void(const OperatorContext&, ConstView gate_up, ConstView output_gradient,
                            View gate_up_gradient);

namespace reference {
SwigluForward swiglu_forward;
SwigluBackward swiglu_backward;
}  // namespace reference

}  // namespace moesaic
