#pragma once
/// The rows (last dimension) of strided views, and the choice of storage type and vector width for a kernel.

#include "refuse.hpp"
#include "vector.cuh"

#include "moesaic/tensor/view.hpp"

#include <type_traits>

namespace moesaic::cuda {

/// Finds the rows of a strided [rows, width] or [tokens, heads, width] view.
template <class T> struct Rows {
  T* data;
  std::uint32_t heads;
  std::int64_t token_stride, head_stride;

  __device__ T* operator[](std::uint32_t row) const {
    if (heads == 1) return data + row * token_stride;
    return data + row / heads * token_stride + row % heads * head_stride;
  }
};

template <class T, class Void> Rows<T> rows_of(const BasicView<Void>& view) {
  auto* data = view.template data<std::remove_const_t<T>>();
  if (view.rank() == 1) return {data, 1, 0, 0};
  if (view.rank() == 2) return {data, 1, view.stride(0), 0};
  return {data, static_cast<std::uint32_t>(view.extent(1)), view.stride(0), view.stride(1)};
}

/// A [rows, columns] matrix whose rows may be strided.
template <class T> struct Matrix {
  T* data;
  std::int64_t stride;

  __device__ T* operator[](std::int64_t row) const { return data + row * stride; }
};

template <class T, class Void> Matrix<T> matrix_of(const BasicView<Void>& view) {
  if (view.absent()) return {nullptr, 0};
  return {view.template data<std::remove_const_t<T>>(), view.stride(0)};
}

/// True when every row of the view starts, and its width ends, where `bytes` can be loaded at once.
inline bool vectors_fit(const ConstView& view, std::int64_t bytes = 16) {
  const std::int64_t size = size_of(view.dtype());
  bool fit = aligned(view.raw(), bytes) && view.extent(view.rank() - 1) * size % bytes == 0;
  for (int i = 0; i + 1 < view.rank(); ++i) fit = fit && view.stride(i) * size % bytes == 0;
  return fit;
}

template <int value> using Constant = std::integral_constant<int, value>;

/// body(T) with T the storage type.
template <class Body> void with_storage(std::string_view operator_name, DType type, const Body& body) {
  if (type == DType::f32) return body(float{});
  if (type == DType::bf16) return body(bf16{});
  refuse_types(operator_name, type, type, "f32 and bf16");
}

/// body(T, elements a vector): 16 bytes a vector where all of the views allow it, else one element.
template <class Body> void with_vectors(std::string_view operator_name, DType type, bool vectors, const Body& body) {
  with_storage(operator_name, type,
               [&]<class T>(T zero) { vectors ? body(zero, Constant<16 / sizeof(T)>{}) : body(zero, Constant<1>{}); });
}

}  // namespace moesaic::cuda
