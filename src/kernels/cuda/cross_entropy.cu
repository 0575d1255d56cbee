#include "moesaic/kernels/cross_entropy.hpp"

#include "launch.cuh"
#include "moesaic/tensor/cuda_memory.hpp"
#include "rows.cuh"

namespace moesaic::cuda {
namespace {

/// Sum of exponentials relative to the largest element so far.
struct Sum {
  float largest = -INFINITY, exponentials = 0;

  __device__ void add(const Sum& other) {
    const float both = fmaxf(largest, other.largest), shift = both == -INFINITY ? 0.0f : both;
    exponentials = exponentials * expf(largest - shift) + other.exponentials * expf(other.largest - shift);
    largest = both;
  }
};

__device__ Sum sum_over_warp(Sum sum) {
#pragma unroll
  for (int distance = warp_lanes / 2; distance > 0; distance /= 2) {
    sum.add({__shfl_xor_sync(~0u, sum.largest, distance), __shfl_xor_sync(~0u, sum.exponentials, distance)});
  }
  return sum;
}

/// In every thread of the first warp.
__device__ Sum sum_over_block(Sum sum) {
  __shared__ Sum sums[block_warps];
  sum = sum_over_warp(sum);
  if (lane_number() == 0) sums[threadIdx.x / warp_lanes] = sum;
  __syncthreads();
  for (int warp = 1; warp < block_warps; ++warp) sum.add(sums[warp]);
  return sum;
}

/// One block a token, one pass over its logits.
template <class T, int count>
__global__ void __launch_bounds__(block_threads)
    forward_kernel(int vocabulary, Rows<const T> logits, const std::int32_t* labels, float* losses,
                   float* log_sum_exp) {
  const std::uint32_t token = blockIdx.x;
  const T* row = logits[token];
  Sum sum;
  float values[count];
  for (int c = static_cast<int>(threadIdx.x) * count; c < vocabulary; c += block_threads * count) {
    load(row + c, values);
    float largest = values[0];
#pragma unroll
    for (int i = 1; i < count; ++i) largest = fmaxf(largest, values[i]);
    Sum more{largest, 0};
    // NaN and a whole vector of -inf: any finite shift gives NaN and 0.
    const float shift = largest == -INFINITY ? 0.0f : largest;
#pragma unroll
    for (int i = 0; i < count; ++i) more.exponentials += expf(values[i] - shift);
    sum.add(more);
  }
  sum = sum_over_block(sum);
  if (threadIdx.x != 0) return;
  const float value = sum.largest + logf(sum.exponentials);
  log_sum_exp[token] = value;
  losses[token] = labels[token] < 0 ? 0.0f : value - widen(row[labels[token]]);
}

/// blockIdx.x: token; blockIdx.y: piece of the vocabulary.
template <class T, int count>
__global__ void __launch_bounds__(block_threads)
    backward_kernel(int vocabulary, float scale, Rows<T> logits, const std::int32_t* labels, const float* log_sum_exp) {
  const std::uint32_t token = blockIdx.x;
  const int label = labels[token];
  const float shift = log_sum_exp[token];
  T* row = logits[token];
  float values[count];
  const int step = block_threads * count * static_cast<int>(gridDim.y);
  for (int c = static_cast<int>(blockIdx.y * block_threads + threadIdx.x) * count; c < vocabulary; c += step) {
    load(row + c, values);
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const float softmax = scale * expf(values[i] - shift);
      values[i] = label < 0 ? 0.0f : c + i == label ? softmax - scale : softmax;
    }
    store(values, row + c);
  }
}

}  // namespace

void cross_entropy_forward(const OperatorContext& context, ConstView logits, ConstView labels, View losses,
                           View log_sum_exp) {
  const std::int64_t tokens = logits.extent(0), vocabulary = logits.extent(1);
  if (tokens == 0) return;
  with_vectors(
      "cross_entropy_forward", logits.dtype(), vectors_fit(logits), [&]<class T, int count>(T, Constant<count>) {
        forward_kernel<T, count><<<static_cast<unsigned>(tokens), block_threads, 0, cuda_stream(context.stream)>>>(
            static_cast<int>(vocabulary), rows_of<const T>(logits), labels.data<std::int32_t>(), losses.data<float>(),
            log_sum_exp.data<float>());
      });
  check_cuda(cudaGetLastError(), "the cross entropy kernel");
}

void cross_entropy_backward(const OperatorContext& context, View logits, ConstView labels, ConstView log_sum_exp,
                            double scale) {
  const std::int64_t tokens = logits.extent(0), vocabulary = logits.extent(1);
  if (logits.size() == 0) return;
  with_vectors("cross_entropy_backward", logits.dtype(), vectors_fit(logits),
               [&]<class T, int count>(T, Constant<count>) {
                 const auto pieces = static_cast<unsigned>(ceil_divide(vocabulary, block_threads * count * 8));
                 const dim3 grid(static_cast<unsigned>(tokens), pieces);
                 backward_kernel<T, count><<<grid, block_threads, 0, cuda_stream(context.stream)>>>(
                     static_cast<int>(vocabulary), static_cast<float>(scale), rows_of<T>(logits),
                     labels.data<std::int32_t>(), log_sum_exp.data<float>());
               });
  check_cuda(cudaGetLastError(), "the cross entropy backward kernel");
}

}  // namespace moesaic::cuda
