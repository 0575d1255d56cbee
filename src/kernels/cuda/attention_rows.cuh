#pragma once
/// Rows of [batch, positions, heads, width] tensors, and of values [batch, heads, positions] beside them.

#include "vector.cuh"

#include "moesaic/tensor/view.hpp"

#include <type_traits>

namespace moesaic::cuda {

template <class T> struct HeadRows {
  T* data;
  std::int64_t batch_stride, position_stride, head_stride;

  __device__ T* at(std::int64_t batch, std::int64_t position, std::int64_t head) const {
    return data + batch * batch_stride + position * position_stride + head * head_stride;
  }
};

/// Of a [batch, positions, heads, width] view.
template <class T, class Void> HeadRows<T> head_rows(const BasicView<Void>& view) {
  return {view.template data<std::remove_const_t<T>>(), view.stride(0), view.stride(1), view.stride(2)};
}

/// Of a [batch, heads, positions] view.
template <class T, class Void> HeadRows<T> head_values(const BasicView<Void>& view) {
  return {view.template data<std::remove_const_t<T>>(), view.stride(0), 1, view.stride(1)};
}

/// Row number `row` of [batch, positions, heads].
struct HeadRow {
  std::uint32_t batch, position, head;

  __device__ static HeadRow of(std::uint32_t row, std::uint32_t positions, std::uint32_t heads) {
    return {row / heads / positions, row / heads % positions, row % heads};
  }
  template <class T> __device__ T* in(const HeadRows<T>& rows) const { return rows.at(batch, position, head); }
};

}  // namespace moesaic::cuda
