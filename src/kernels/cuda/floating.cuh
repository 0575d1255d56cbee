#pragma once
/// All floating-point storage types, f64 too, for the operators that take any.

#include "rows.cuh"

namespace moesaic::cuda {

/// The type of sums of two storage types: f64 where one of them is, else f32.
template <class In, class Out>
using Common = std::conditional_t<std::is_same_v<In, double> || std::is_same_v<Out, double>, double, float>;

template <class Common, class T> __device__ Common widened(T value) {
  if constexpr (std::is_same_v<T, bf16>)
    return widen(value);
  else
    return static_cast<Common>(value);
}

template <class Out, class Common> __device__ Out narrowed(Common value) {
  if constexpr (std::is_same_v<Out, bf16>)
    return narrow<bf16>(static_cast<float>(value));
  else
    return static_cast<Out>(value);
}

/// body(T) for every floating-point storage type.
template <class Body> void with_floating(std::string_view operator_name, DType type, const Body& body) {
  if (type == DType::f64) return body(double{});
  with_storage(operator_name, type, body);
}

}  // namespace moesaic::cuda
