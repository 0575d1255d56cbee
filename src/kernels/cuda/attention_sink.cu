#include "moesaic/kernels/attention_sink.hpp"

#include "attention_rows.cuh"
#include "launch.cuh"
#include "moesaic/tensor/cuda_memory.hpp"
#include "rows.cuh"

#include <algorithm>

namespace moesaic::cuda {
namespace {

/// log(exp(a) + exp(b)).
__device__ float log_add(float a, float b) {
  const float largest = fmaxf(a, b);
  return largest == -INFINITY ? largest : largest + logf(expf(a - largest) + expf(b - largest));
}

/// One warp a query and head.
template <class T>
__global__ void __launch_bounds__(block_threads)
    sink_kernel(std::uint32_t rows, std::uint32_t queries, std::uint32_t heads, int width, const T* sinks,
                HeadRows<T> out, HeadRows<float> log_sum_exp) {
  if (warp_number() >= rows) return;
  const HeadRow row = HeadRow::of(warp_number(), queries, heads);
  const float before = *row.in(log_sum_exp), after = log_add(before, widen(sinks[row.head]));
  const float share = before == -INFINITY ? 0.0f : expf(before - after);
  __syncwarp();
  if (lane_number() == 0) *row.in(log_sum_exp) = after;
  T* x = row.in(out);
  for (int c = lane_number(); c < width; c += warp_lanes) x[c] = narrow<T>(share * widen(x[c]));
}

/// partials [chunks, heads] = -exp(sink - log_sum_exp) <out_gradient, out> over a chunk (blockIdx.x) of a head's rows, in f64,
/// since it has a term a query.
template <class T>
__global__ void __launch_bounds__(block_threads)
    sink_gradient_kernel(std::uint32_t rows, std::uint32_t chunk_rows, std::uint32_t queries, int width, const T* sinks,
                         HeadRows<const T> out, HeadRows<const float> log_sum_exp, HeadRows<const T> out_gradient,
                         double* partials) {
  const std::uint32_t head = blockIdx.y, begin = blockIdx.x * chunk_rows, end = min(rows, begin + chunk_rows);
  const float sink = widen(sinks[head]);
  double sum = 0;
  for (std::uint32_t i = begin + threadIdx.x / warp_lanes; i < end; i += block_warps) {
    const HeadRow row{i / queries, i % queries, head};
    const T* x = row.in(out);
    const T* gradient = row.in(out_gradient);
    float product = 0;
    for (int c = lane_number(); c < width; c += warp_lanes) product += widen(gradient[c]) * widen(x[c]);
    const float share = sink == -INFINITY ? 0.0f : expf(sink - *row.in(log_sum_exp));
    sum -= static_cast<double>(share * product);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) partials[blockIdx.x * gridDim.y + head] = sum;
}

/// gradient [heads] += partials [chunks, heads], chunks in order.
__global__ void __launch_bounds__(block_threads)
    add_chunks_kernel(int chunks, int heads, const double* partials, float* gradient) {
  const int head = static_cast<int>(thread_number());
  if (head >= heads) return;
  double sum = 0;
  for (int chunk = 0; chunk < chunks; ++chunk) sum += partials[chunk * heads + head];
  gradient[head] += static_cast<float>(sum);
}

constexpr std::int64_t max_chunks = 64;

}  // namespace

void attention_sink(const OperatorContext& context, ConstView sinks, View out, View log_sum_exp) {
  const std::int64_t queries = out.extent(1), heads = out.extent(2), rows = out.extent(0) * queries * heads;
  MOESAIC_EXPECT(sinks.size() == heads && log_sum_exp.size() == rows);
  if (rows == 0) return;
  with_storage("attention_sink", out.dtype(), [&]<class T>(T) {
    sink_kernel<T><<<blocks_for(rows, block_warps), block_threads, 0, cuda_stream(context.stream)>>>(
        static_cast<std::uint32_t>(rows), static_cast<std::uint32_t>(queries), static_cast<std::uint32_t>(heads),
        static_cast<int>(out.extent(3)), sinks.data<T>(), head_rows<T>(out), head_values<float>(log_sum_exp));
  });
  check_cuda(cudaGetLastError(), "the attention sink kernel");
}

void attention_sink_backward(const OperatorContext& context, ConstView sinks, ConstView out, ConstView log_sum_exp,
                             ConstView out_gradient, View sinks_gradient) {
  const std::int64_t queries = out.extent(1), heads = out.extent(2), rows = out.extent(0) * queries;
  MOESAIC_EXPECT(sinks.size() == heads && out.extents() == out_gradient.extents());
  if (rows == 0 || heads == 0) return;
  const std::int64_t chunk_rows = std::max<std::int64_t>(32, ceil_divide(rows, max_chunks));
  const auto chunks = static_cast<unsigned>(ceil_divide(rows, chunk_rows));
  const Tensor partials = context.arena->tensor(DType::f64, {chunks, heads}, Label::workspace);
  auto* sums = partials.view().data<double>();
  const cudaStream_t stream = cuda_stream(context.stream);
  with_storage("attention_sink_backward", out.dtype(), [&]<class T>(T) {
    sink_gradient_kernel<T><<<dim3(chunks, static_cast<unsigned>(heads)), block_threads, 0, stream>>>(
        static_cast<std::uint32_t>(rows), static_cast<std::uint32_t>(chunk_rows), static_cast<std::uint32_t>(queries),
        static_cast<int>(out.extent(3)), sinks.data<T>(), head_rows<const T>(out),
        head_values<const float>(log_sum_exp), head_rows<const T>(out_gradient), sums);
  });
  check_cuda(cudaGetLastError(), "the attention sink backward kernel");
  add_chunks_kernel<<<blocks_for(heads), block_threads, 0, stream>>>(static_cast<int>(chunks), static_cast<int>(heads),
                                                                     sums, sinks_gradient.data<float>());
  check_cuda(cudaGetLastError(), "the attention sink partial sums kernel");
}

}  // namespace moesaic::cuda
