#pragma once
/// Biases of dense and grouped products.

#include "moesaic/kernels/context.hpp"

namespace moesaic {

/// rows [rows, width] += bias[e] for rows [offsets[e], offsets[e+1]); bias: [groups, width]; offsets: i64 [groups + 1] as in
/// GroupedGemm; absent: one group of all rows.
using AddBias = void(const OperatorContext&, ConstView bias, ConstView offsets, View rows);

/// bias_gradient [groups, width] (accumulator type) += the sum of each group's rows, in fixed order.
using BiasGradient = void(const OperatorContext&, ConstView rows_gradient, ConstView offsets, View bias_gradient);

namespace reference {
AddBias add_bias;
BiasGradient bias_gradient;
}  // namespace reference

namespace cuda {
AddBias add_bias;
BiasGradient bias_gradient;
}  // namespace cuda

}  // namespace moesaic
