#include "floating.cuh"
#include "launch.cuh"
#include "moesaic/kernels/elementwise.hpp"
#include "moesaic/tensor/cuda_memory.hpp"

#include <algorithm>

namespace moesaic::cuda {
namespace {

/// Elements of one partial sum: a multiple of what a block takes at once, and at most 1024 sums.
constexpr int sum_count = 4;
std::int64_t sum_chunk(std::int64_t size) {
  constexpr std::int64_t at_once = block_threads * sum_count;
  return at_once * std::max<std::int64_t>(8, ceil_divide(size, at_once * 1024));
}

template <bool squares, class T> __device__ double term(T element) {
  const auto value = widened<double>(element);
  return squares ? value * value : value;
}

/// partials[block] = sum over the block's chunk. Each thread takes neighbours, whether or not they load at once.
template <bool squares, class T>
__global__ void __launch_bounds__(block_threads)
    partial_sum_kernel(std::int64_t size, std::int64_t chunk, bool vectors, const T* values, double* partials) {
  const std::int64_t begin = blockIdx.x * chunk, end = min(size, begin + chunk);
  double sum = 0;
  for (std::int64_t i = begin + threadIdx.x * sum_count; i < end; i += block_threads * sum_count) {
    if (vectors && i + sum_count <= end) {
      const auto vector = *reinterpret_cast<const Vector<T, sum_count>*>(values + i);
#pragma unroll
      for (int j = 0; j < sum_count; ++j) sum += term<squares>(vector.elements[j]);
    } else {
      for (std::int64_t j = i; j < min(end, i + sum_count); ++j) sum += term<squares>(values[j]);
    }
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(block_threads) final_sum_kernel(int chunks, const double* partials, double* result) {
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < chunks; i += block_threads) sum += partials[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *result = sum;
}

template <bool squares> void sum_any(const char* name, const OperatorContext& context, ConstView values, View result) {
  MOESAIC_EXPECT(values.contiguous() && result.size() == 1);
  const std::int64_t chunk = sum_chunk(values.size()), chunks = ceil_divide(values.size(), chunk);
  const Tensor partials = context.arena->tensor(DType::f64, {chunks}, Label::workspace);
  auto* sums = partials.view().data<double>();
  const cudaStream_t stream = cuda_stream(context.stream);
  with_floating(name, values.dtype(), [&]<class T>(T) {
    if (chunks == 0) return;
    partial_sum_kernel<squares, T><<<static_cast<unsigned>(chunks), block_threads, 0, stream>>>(
        values.size(), chunk, aligned(values.raw(), sizeof(T) * sum_count), values.data<T>(), sums);
  });
  check_cuda(cudaGetLastError(), "the partial sum kernel");
  final_sum_kernel<<<1, block_threads, 0, stream>>>(static_cast<int>(chunks), sums, result.data<double>());
  check_cuda(cudaGetLastError(), "the sum kernel");
}

}  // namespace

void sum_of_squares(const OperatorContext& context, ConstView values, View result) {
  sum_any<true>("sum_of_squares", context, values, result);
}

void sum(const OperatorContext& context, ConstView values, View result) {
  sum_any<false>("sum", context, values, result);
}

}  // namespace moesaic::cuda
