#pragma once
/// Gradients by central differences, against which analytic ones are tested (in double).

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "support/host_tensor.hpp"

namespace moesaic {

/// Largest |central difference - analytic| over all elements of x, divided by the largest gradient of either kind (0
/// when all are zero). `loss()` returns a double that depends on the memory of x, which is varied by +-step and restored.
/// x and analytic: f64, the same shape. NaN anywhere gives NaN.
template <class Loss> double max_gradient_error(const Loss& loss, View x, ConstView analytic, double step = 1e-5) {
  double error = 0, scale = 0;
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const double value = element(x, i), gradient = element(analytic, i);
    set_element(x, i, value + step);
    const double above = loss();
    set_element(x, i, value - step);
    const double below = loss();
    set_element(x, i, value);
    const double difference = (above - below) / (2 * step);
    if (std::isnan(difference - gradient)) return difference - gradient;
    error = std::max(error, std::abs(difference - gradient));
    scale = std::max({scale, std::abs(difference), std::abs(gradient)});
  }
  return scale > 0 ? error / scale : 0;
}

/// <weights, values>, in double: a loss whose gradient with respect to values is weights.
inline double inner_product(ConstView weights, ConstView values) {
  double sum = 0;
  for (std::int64_t i = 0; i < values.size(); ++i) sum += element(weights, i) * element(values, i);
  return sum;
}

}  // namespace moesaic
