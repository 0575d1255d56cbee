#pragma once
/// Dense and grouped matrix products.

#include "moesaic/kernels/context.hpp"

namespace moesaic {

enum class Transpose : bool { no, yes };

/// c [m, n] = alpha * op(a) op(b) + beta * c, with op(a) [m, k] and op(b) [k, n]; 2-D views, rows may be strided.
/// c may be of the accumulator type while a and b are bf16 (weight gradients). beta = 0 does not read c.
using Gemm = void(const OperatorContext&, Transpose transpose_a, Transpose transpose_b, double alpha, ConstView a,
                  ConstView b, double beta, View c);

/// One product an expert over rows that lie in expert order: rows [offsets[e], offsets[e+1]) belong to expert e.
/// Transpose::yes (forward):        out [rows, n] = in [rows, k] * weights[e]^T with weights [experts, n, k];
/// Transpose::no (input gradient):  out [rows, k] = in [rows, n] * weights[e]   with weights [experts, n, k].
/// offsets: i64 [experts + 1], on the operator's device, offsets[0] = 0; rows past offsets[experts] are left alone.
using GroupedGemm = void(const OperatorContext&, Transpose transpose_weights, ConstView in, ConstView weights,
                         ConstView offsets, View out);

/// gradient[e] [n, k] = beta * gradient[e] + output_gradient[rows of e]^T [n, rows] * in[rows of e] [rows, k].
/// beta is 0 or 1; an expert without rows gets zeros (beta 0) or stays (beta 1).
using GroupedGemmWeightGradient = void(const OperatorContext&, ConstView output_gradient, ConstView in,
                                       ConstView offsets, double beta, View gradient);

namespace reference {
Gemm gemm;
GroupedGemm grouped_gemm;
GroupedGemmWeightGradient grouped_gemm_weight_gradient;
}  // namespace reference

namespace cuda {
Gemm gemm;
GroupedGemm grouped_gemm;
GroupedGemmWeightGradient grouped_gemm_weight_gradient;
}  // namespace cuda

}  // namespace moesaic
