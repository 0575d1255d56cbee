#include "moesaic/kernels/permutation.hpp"

#include "parallel.hpp"
#include "scalar_dispatch.hpp"

#include <algorithm>
#include <cstring>

namespace moesaic::reference {
namespace {

const std::int32_t* row_of(ConstView view, std::int64_t row) {
  return view.data<std::int32_t>() + row * view.stride(0);
}

/// Turns the count of each key, at offsets[key + 1], into each key's first slot, at offsets[key].
void prefix_sum(std::int64_t* offsets, std::int64_t num_keys) {
  for (std::int64_t key = 0; key < num_keys; ++key) offsets[key + 1] += offsets[key];
}

template <class T> void scaled_row(const T* in, T weight, std::int64_t width, T* out) {
#pragma omp simd
  for (std::int64_t c = 0; c < width; ++c) out[c] = weight * in[c];
}

template <class T> void add_scaled_row(const T* in, T weight, std::int64_t width, T* out) {
#pragma omp simd
  for (std::int64_t c = 0; c < width; ++c) out[c] += weight * in[c];
}

template <class T> T dot(const T* a, const T* b, std::int64_t width) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t c = 0; c < width; ++c) sum += a[c] * b[c];
  return sum;
}

template <class T> T weight_at(ConstView weights, std::int64_t token, std::int64_t column) {
  return weights.absent() ? T(1) : weights.data<T>()[token * weights.stride(0) + column];
}

template <class T>
void combine_token(ConstView in, ConstView token_slot, ConstView weights, std::int64_t token, View out) {
  const std::int64_t width = out.extent(1);
  T* sum = out.data<T>() + token * out.stride(0);
  bool first = true;
  for (std::int64_t j = 0; j < token_slot.extent(1); ++j) {
    const std::int64_t slot = row_of(token_slot, token)[j];
    if (slot < 0) continue;
    const T* row = in.data<T>() + slot * in.stride(0);
    const T weight = weight_at<T>(weights, token, j);
    first ? scaled_row(row, weight, width, sum) : add_scaled_row(row, weight, width, sum);
    first = false;
  }
  if (first) std::fill_n(sum, width, T(0));
}

template <class T>
void combine_token_backward(ConstView in, ConstView token_slot, ConstView weights, ConstView out_gradient,
                            std::int64_t token, View in_gradient, View weights_gradient) {
  const std::int64_t width = out_gradient.extent(1);
  const T* gradient = out_gradient.data<T>() + token * out_gradient.stride(0);
  for (std::int64_t j = 0; j < token_slot.extent(1); ++j) {
    const std::int64_t slot = row_of(token_slot, token)[j];
    // The product comes before the write: in_gradient may be in.
    if (!weights_gradient.absent()) {
      T& result = weights_gradient.data<T>()[token * weights_gradient.stride(0) + j];
      result = slot < 0 ? T(0) : dot(gradient, in.data<T>() + slot * in.stride(0), width);
    }
    if (slot < 0) continue;
    scaled_row(gradient, weight_at<T>(weights, token, j), width, in_gradient.data<T>() + slot * in_gradient.stride(0));
  }
}

}  // namespace

void sort_by_key(const OperatorContext&, ConstView keys, View offsets, View slot_token, View token_slot) {
  const std::int64_t tokens = keys.extent(0), columns = keys.extent(1), num_keys = offsets.extent(0) - 1;
  std::int64_t* next = offsets.data<std::int64_t>();
  std::fill_n(next, num_keys + 1, 0);
  for (std::int64_t token = 0; token < tokens; ++token) {
    for (std::int64_t j = 0; j < columns; ++j) {
      const std::int32_t key = row_of(keys, token)[j];
      MOESAIC_EXPECT(key < num_keys);
      if (key >= 0) ++next[key + 1];
    }
  }
  prefix_sum(next, num_keys);
  for (std::int64_t token = 0; token < tokens; ++token) {
    std::int32_t* slots = token_slot.data<std::int32_t>() + token * token_slot.stride(0);
    for (std::int64_t j = 0; j < columns; ++j) {
      const std::int32_t key = row_of(keys, token)[j];
      slots[j] = key < 0 ? -1 : static_cast<std::int32_t>(next[key]++);
      if (key >= 0) slot_token.data<std::int32_t>()[slots[j]] = static_cast<std::int32_t>(token);
    }
  }
  // Each key's counter has run on to the first slot of the next key.
  std::copy_backward(next, next + num_keys, next + num_keys + 1);
  next[0] = 0;
}

void gather_rows(const OperatorContext&, ConstView in, ConstView slot_token, View out) {
  const std::int64_t slots = out.extent(0), element = size_of(in.dtype()), row_bytes = out.extent(1) * element;
  const std::int64_t in_stride = in.stride(0) * element, out_stride = out.stride(0) * element;
  const auto* source = static_cast<const char*>(in.raw());
  auto* target = static_cast<char*>(out.raw());
  const std::int32_t* tokens = slot_token.data<std::int32_t>();
  parallel_for(slots, row_bytes / 4, [&](std::int64_t slot) {
    std::memcpy(target + slot * out_stride, source + tokens[slot] * in_stride, static_cast<std::size_t>(row_bytes));
  });
}

void combine_rows(const OperatorContext&, ConstView in, ConstView token_slot, ConstView weights, View out) {
  with_scalar("combine_rows", out.dtype(), [&]<class T>(std::type_identity<T>) {
    const std::int64_t tokens = out.extent(0);
    parallel_for(tokens, token_slot.extent(1) * out.extent(1),
                 [&](std::int64_t token) { combine_token<T>(in, token_slot, weights, token, out); });
  });
}

void combine_rows_backward(const OperatorContext&, ConstView in, ConstView token_slot, ConstView weights,
                           ConstView out_gradient, View in_gradient, View weights_gradient) {
  with_scalar("combine_rows_backward", out_gradient.dtype(), [&]<class T>(std::type_identity<T>) {
    const std::int64_t tokens = out_gradient.extent(0);
    parallel_for(tokens, token_slot.extent(1) * out_gradient.extent(1), [&](std::int64_t token) {
      combine_token_backward<T>(in, token_slot, weights, out_gradient, token, in_gradient, weights_gradient);
    });
  });
}

}  // namespace moesaic::reference
