#pragma once
/// From the storage type of a view to the scalar of a template: the one place where a reference operator switches.

#include <type_traits>

#include "moesaic/base/contract.hpp"
#include "moesaic/tensor/view.hpp"

namespace moesaic::reference {

[[noreturn]] inline void refuse_type(const char* operator_name, DType type) {
  throw ContractError(
      fmt::format("reference operator {} was given {} (on the CPU operators compute in f32 or f64); "
                  "convert with copy first, or run on a GPU",
                  operator_name, name_of(type)));
}

/// Calls body(std::type_identity<T>{}) with T = float or double.
template <class Body> void with_scalar(const char* operator_name, DType type, const Body& body) {
  switch (type) {
    case DType::f32: return body(std::type_identity<float>{});
    case DType::f64: return body(std::type_identity<double>{});
    default: refuse_type(operator_name, type);
  }
}

/// The same for all floating-point storage types, bf16 too.
template <class Body> void with_floating(const char* operator_name, DType type, const Body& body) {
  if (type == DType::bf16) return body(std::type_identity<bf16>{});
  with_scalar(operator_name, type, body);
}

}  // namespace moesaic::reference
