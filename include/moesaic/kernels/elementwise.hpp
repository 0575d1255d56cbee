#pragma once
/// Elementwise helpers over contiguous memory, and reductions to one number. Copy and accumulate also take strided views,
/// then of equal extents.

#include "moesaic/kernels/context.hpp"

namespace moesaic {

/// values = value; floating point, or i64 (counts).
using Fill = void(const OperatorContext&, double value, View values);
/// out = in, converting between f32, f64 and bf16 (round to nearest even); the same size.
using Copy = void(const OperatorContext&, ConstView in, View out);
/// out += in; in may be of another floating-point type. Both may be i64 (counts).
using Accumulate = void(const OperatorContext&, ConstView in, View out);
/// values *= factor.
using Scale = void(const OperatorContext&, double factor, View values);
/// result (f64 [1]) = sum of squares in f64, fixed chunks in order.
using SumOfSquares = void(const OperatorContext&, ConstView values, View result);
/// result (f64 [1]) = sum in f64, fixed chunks in order.
using Sum = void(const OperatorContext&, ConstView values, View result);

namespace reference {
Fill fill;
Copy copy;
Accumulate accumulate;
Scale scale;
SumOfSquares sum_of_squares;
Sum sum;
}  // namespace reference

namespace cuda {
Fill fill;
Copy copy;
Accumulate accumulate;
Scale scale;
SumOfSquares sum_of_squares;
Sum sum;
}  // namespace cuda

}  // namespace moesaic
