#pragma once
/// RMSNorm of every query or key head followed by its rotary embedding (Qwen3, arXiv 2505.09388), one pass each way.

#include "moesaic/kernels/context.hpp"

namespace moesaic {

/// y = R(n) with n = x * r * weight, r = 1 / sqrt(mean(x^2 over the head) + eps) (kernels/rms_norm.hpp); R turns the first
/// rotary = 2 * cosine.extent(1) elements of n by RotaryPairs::halves (kernels/rotary.hpp) and leaves the others.
/// x, y: [tokens, heads, width], leading dimensions may be strided, width even, rotary <= width; weight: [width]; cosine,
/// sine: [positions, rotary/2], accumulator type; positions: i32 [tokens]; inverse_rms: r, [tokens, heads], accumulator
/// type, contiguous. n is not rounded to the storage type. y may be x.
using HeadNormRotaryForward = void(const OperatorContext&, ConstView x, ConstView weight, double eps, ConstView cosine,
                                   ConstView sine, ConstView positions, View y, View inverse_rms);

/// In place, gradient (of y) becomes that of x: with h = R^-1(gradient) and g = h * weight, r * (g - x * r^2 * mean(g * x)).
/// weight_gradient [width] += sum over tokens and heads of h * x * r (accumulator type; rows in order of fixed chunks).
using HeadNormRotaryBackward = void(const OperatorContext&, ConstView x, ConstView weight, ConstView inverse_rms,
                                    ConstView cosine, ConstView sine, ConstView positions, View gradient,
                                    View weight_gradient);

namespace reference {
HeadNormRotaryForward head_norm_rotary_forward;
HeadNormRotaryBackward head_norm_rotary_backward;
}  // namespace reference

namespace cuda {
HeadNormRotaryForward head_norm_rotary_forward;
HeadNormRotaryBackward head_norm_rotary_backward;
}  // namespace cuda

}  // namespace moesaic
