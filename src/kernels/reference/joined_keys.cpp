#include "moesaic/kernels/joined_keys.hpp"

#include <algorithm>

#include "parallel.hpp"
#include "scalar_dispatch.hpp"

namespace moesaic::reference {
namespace {

/// The row of one token and head of [tokens, heads, width].
template <class T, class Void> auto* row_of(const BasicView<Void>& view, std::int64_t token, std::int64_t head) {
  return view.template data<T>() + token * view.stride(0) + head * view.stride(1);
}

void expect_parts(const Extents& keys, const Extents& own, const Extents& shared) {
  MOESAIC_EXPECT(own[0] == keys[0] && own[1] == keys[1] && shared[0] == keys[0]);
  MOESAIC_EXPECT(own[2] + shared[1] == keys[2]);
}

}  // namespace

void join_keys(const OperatorContext&, ConstView own, ConstView shared, View keys) {
  expect_parts(keys.extents(), own.extents(), shared.extents());
  const std::int64_t heads = own.extent(1), own_width = own.extent(2), shared_width = shared.extent(1);
  with_scalar("join_keys", keys.dtype(), [&]<class T>(std::type_identity<T>) {
    parallel_for(keys.extent(0), heads * keys.extent(2), [&](std::int64_t t) {
      for (std::int64_t head = 0; head < heads; ++head) {
        T* to = std::copy_n(row_of<T>(own, t, head), own_width, row_of<T>(keys, t, head));
        std::copy_n(shared.data<T>() + t * shared.stride(0), shared_width, to);
      }
    });
  });
}

void join_keys_backward(const OperatorContext&, ConstView keys_gradient, View own_gradient, View shared_gradient) {
  expect_parts(keys_gradient.extents(), own_gradient.extents(), shared_gradient.extents());
  const std::int64_t heads = own_gradient.extent(1), own_width = own_gradient.extent(2);
  const std::int64_t shared_width = shared_gradient.extent(1);
  with_scalar("join_keys_backward", keys_gradient.dtype(), [&]<class T>(std::type_identity<T>) {
    parallel_for(keys_gradient.extent(0), heads * keys_gradient.extent(2), [&](std::int64_t t) {
      T* sum = shared_gradient.data<T>() + t * shared_gradient.stride(0);
      std::fill_n(sum, shared_width, T(0));
      for (std::int64_t head = 0; head < heads; ++head) {
        const T* from = row_of<T>(keys_gradient, t, head);
        std::copy_n(from, own_width, row_of<T>(own_gradient, t, head));
#pragma omp simd
        for (std::int64_t i = 0; i < shared_width; ++i) sum[i] += from[own_width + i];
      }
    });
  });
}

}  // namespace moesaic::reference
