#pragma once
/// Gated linear unit with SiLU (Shazeer 2020, arXiv 2002.05202).

#include <limits>

#include "moesaic/kernels/context.hpp"

namespace moesaic {

/// The usual one is the default; GPT-OSS (OpenAI 2025) has alpha 1.702, limit 7 and up_offset 1.
struct SwigluOptions {
  double alpha = 1;
  double limit = std::numeric_limits<double>::infinity();
  double up_offset = 0;
};

/// y [rows, width] = g sigmoid(alpha g) (u + up_offset) with gate_up [rows, 2 * width] = [gate | up],
/// g = min(gate, limit), u = up within [-limit, limit].
using SwigluForward = void(const OperatorContext&, const SwigluOptions&, ConstView gate_up, View y);

/// gate_up_gradient [rows, 2 * width], 0 where a limit was exceeded; may be gate_up itself.
using SwigluBackward = void(const OperatorContext&, const SwigluOptions&, ConstView gate_up, ConstView output_gradient,
                            View gate_up_gradient);

namespace reference {
SwigluForward swiglu_forward;
SwigluBackward swiglu_backward;
}  // namespace reference

namespace cuda {
SwigluForward swiglu_forward;
SwigluBackward swiglu_backward;
}  // namespace cuda

}  // namespace moesaic
