#include "moesaic/kernels/joined_keys.hpp"

#include "launch.cuh"
#include "moesaic/tensor/cuda_memory.hpp"
#include "rows.cuh"

namespace moesaic::cuda {
namespace {

struct Widths {
  std::uint32_t own, shared;
  __device__ std::uint32_t both() const { return own + shared; }
};

/// One thread `count` neighbours of one head's key.
template <class T, int count>
__global__ void __launch_bounds__(block_threads) join_kernel(std::uint32_t items, std::uint32_t heads, Widths widths,
                                                             Rows<const T> own, Rows<const T> shared, Rows<T> keys) {
  const std::uint32_t item = thread_number();
  if (item >= items) return;
  const std::uint32_t per_head = widths.both() / count, row = item / per_head, column = item % per_head * count;
  float values[count];
  if (column < widths.own)
    load(own[row] + column, values);
  else
    load(shared[row / heads] + column - widths.own, values);
  store(values, keys[row] + column);
}

/// One thread `count` neighbours of all heads of a token: what is each head's own is copied, what is shared summed.
template <class T, int count>
__global__ void __launch_bounds__(block_threads)
    backward_kernel(std::uint32_t items, std::uint32_t heads, Widths widths, Rows<const T> keys_gradient,
                    Rows<T> own_gradient, Rows<T> shared_gradient) {
  const std::uint32_t item = thread_number();
  if (item >= items) return;
  const std::uint32_t per_token = widths.both() / count, token = item / per_token, column = item % per_token * count;
  float values[count], sums[count] = {};
  for (std::uint32_t head = 0; head < heads; ++head) {
    const std::uint32_t row = token * heads + head;
    load(keys_gradient[row] + column, values);
    if (column < widths.own) store(values, own_gradient[row] + column);
#pragma unroll
    for (int i = 0; i < count; ++i) sums[i] += values[i];
  }
  if (column >= widths.own) store(sums, shared_gradient[token] + column - widths.own);
}

Widths widths_of(ConstView keys, ConstView own, ConstView shared) {
  MOESAIC_EXPECT(own.extent(0) == keys.extent(0) && own.extent(1) == keys.extent(1));
  MOESAIC_EXPECT(shared.extent(0) == keys.extent(0) && own.extent(2) + shared.extent(1) == keys.extent(2));
  return {static_cast<std::uint32_t>(own.extent(2)), static_cast<std::uint32_t>(shared.extent(1))};
}

}  // namespace

void join_keys(const OperatorContext& context, ConstView own, ConstView shared, View keys) {
  const Widths widths = widths_of(keys, own, shared);
  if (keys.size() == 0) return;
  const bool vectors = vectors_fit(own) && vectors_fit(shared) && vectors_fit(keys);
  with_vectors("join_keys", keys.dtype(), vectors, [&]<class T, int count>(T, Constant<count>) {
    const std::int64_t items = keys.size() / count;
    join_kernel<T, count><<<blocks_for(items), block_threads, 0, cuda_stream(context.stream)>>>(
        static_cast<std::uint32_t>(items), static_cast<std::uint32_t>(keys.extent(1)), widths, rows_of<const T>(own),
        rows_of<const T>(shared), rows_of<T>(keys));
  });
  check_cuda(cudaGetLastError(), "the joining kernel");
}

void join_keys_backward(const OperatorContext& context, ConstView keys_gradient, View own_gradient,
                        View shared_gradient) {
  const Widths widths = widths_of(keys_gradient, own_gradient, shared_gradient);
  if (keys_gradient.extent(0) == 0 || keys_gradient.extent(2) == 0) return;
  const bool vectors = vectors_fit(keys_gradient) && vectors_fit(own_gradient) && vectors_fit(shared_gradient);
  with_vectors("join_keys_backward", keys_gradient.dtype(), vectors, [&]<class T, int count>(T, Constant<count>) {
    const std::int64_t items = keys_gradient.extent(0) * (keys_gradient.extent(2) / count);
    backward_kernel<T, count><<<blocks_for(items), block_threads, 0, cuda_stream(context.stream)>>>(
        static_cast<std::uint32_t>(items), static_cast<std::uint32_t>(keys_gradient.extent(1)), widths,
        rows_of<const T>(keys_gradient), rows_of<T>(own_gradient), rows_of<T>(shared_gradient));
  });
  check_cuda(cudaGetLastError(), "the joining backward kernel");
}

}  // namespace moesaic::cuda
