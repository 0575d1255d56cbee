#pragma once
/// Root-mean-square normalisation (Zhang and Sennrich 2019, arXiv 1910.07467).

#include "moesaic/kernels/context.hpp"

namespace moesaic {

/// y = x * r * weight with r = 1 / sqrt(mean(x^2 over the last dimension) + eps).
/// x, y: [rows, width] or [tokens, heads, width], leading dimensions may be strided; weight: [width];
/// inverse_rms: r, [rows] or [tokens, heads], accumulator type, contiguous. y may be x.
/// Example: x = (3, 4), eps = 0, weight = (1, 1): mean square 12.5, y = (0.8485, 1.1314).
using RmsNormForward = void(const OperatorContext&, ConstView x, ConstView weight, double eps, View y,
                            View inverse_rms);

/// x += residual, rounded to the storage type, then y and inverse_rms as RmsNormForward gives them for the new x, all in
/// one pass. residual: like x. y may be residual.
/// Example: x = (1, 1), residual = (2, 3): x = (3, 4), and y as above.
using RmsNormResidualForward = void(const OperatorContext&, ConstView residual, ConstView weight, double eps, View x,
                                    View y, View inverse_rms);

/// With g = output_gradient * weight: x_gradient = beta * x_gradient + r * (g - x * r^2 * mean(g * x)),
/// weight_gradient [width] += sum over rows of output_gradient * x * r (accumulator type; rows in order of fixed chunks).
/// beta is 0 or 1. x_gradient may be output_gradient when beta is 0.
using RmsNormBackward = void(const OperatorContext&, ConstView x, ConstView weight, ConstView inverse_rms,
                             ConstView output_gradient, double beta, View x_gradient, View weight_gradient);

namespace reference {
RmsNormForward rms_norm_forward;
RmsNormResidualForward rms_norm_residual_forward;
RmsNormBackward rms_norm_backward;
}  // namespace reference

namespace cuda {
RmsNormForward rms_norm_forward;
RmsNormResidualForward rms_norm_residual_forward;
RmsNormBackward rms_norm_backward;
}  // namespace cuda

}  // namespace moesaic
