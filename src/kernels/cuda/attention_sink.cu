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

/// Lanes that share a row of one query and head: eight, with vectors, take 64 bf16 at once.
constexpr int row_lanes = 8;
constexpr int block_rows = block_threads / row_lanes;

__device__ int row_lane() { return lane_number() % row_lanes; }
__device__ std::uint32_t row_of_block() { return threadIdx.x / row_lanes; }

/// row_lanes a query and head, in vectors of `count`.
template <class T, int count>
__global__ void __launch_bounds__(block_threads)
    sink_kernel(std::uint32_t rows, std::uint32_t queries, std::uint32_t heads, int width, const T* sinks,
                HeadRows<T> out, HeadRows<float> log_sum_exp) {
  const std::uint32_t number = blockIdx.x * block_rows + row_of_block();
  const bool exists = number < rows;
  const HeadRow row = HeadRow::of(exists ? number : 0, queries, heads);
  const float before = *row.in(log_sum_exp), after = log_add(before, widen(sinks[row.head]));
  const float share = before == -INFINITY ? 0.0f : expf(before - after);
  __syncwarp();  // all lanes of a row have read what one of them writes
  if (!exists) return;
  if (row_lane() == 0) *row.in(log_sum_exp) = after;
  T* x = row.in(out);
  for (int c = row_lane() * count; c < width; c += row_lanes * count) {
    float values[count];
    load(x + c, values);
#pragma unroll
    for (int i = 0; i < count; ++i) values[i] *= share;
    store(values, x + c);
  }
}

/// This lane's part of <a, b>, both of `width`.
template <int count, class T> __device__ float part_of_product(const T* a, const T* b, int width) {
  float product = 0;
  for (int c = row_lane() * count; c < width; c += row_lanes * count) {
    float x[count], y[count];
    load(a + c, x);
    load(b + c, y);
#pragma unroll
    for (int i = 0; i < count; ++i) product += x[i] * y[i];
  }
  return product;
}

/// partials [chunks, heads] = -exp(sink - log_sum_exp) <out_gradient, out> over a chunk (blockIdx.x) of a head's rows, in f64,
/// since it has a term a query.
template <class T, int count>
__global__ void __launch_bounds__(block_threads)
    sink_gradient_kernel(std::uint32_t rows, std::uint32_t chunk_rows, std::uint32_t queries, int width, const T* sinks,
                         HeadRows<const T> out, HeadRows<const float> log_sum_exp, HeadRows<const T> out_gradient,
                         double* partials) {
  const std::uint32_t head = blockIdx.y, begin = blockIdx.x * chunk_rows, end = min(rows, begin + chunk_rows);
  const float sink = widen(sinks[head]);
  double sum = 0;
#pragma unroll 4
  for (std::uint32_t i = begin + row_of_block(); i < end; i += block_rows) {
    const HeadRow row{i / queries, i % queries, head};
    const float product = part_of_product<count>(row.in(out_gradient), row.in(out), width);
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
  with_vectors("attention_sink", out.dtype(), vectors_fit(out), [&]<class T, int count>(T, Constant<count>) {
    sink_kernel<T, count><<<blocks_for(rows, block_rows), block_threads, 0, cuda_stream(context.stream)>>>(
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
  const bool vectors = vectors_fit(out) && vectors_fit(out_gradient);
  with_vectors("attention_sink_backward", out.dtype(), vectors, [&]<class T, int count>(T, Constant<count>) {
    sink_gradient_kernel<T, count><<<dim3(chunks, static_cast<unsigned>(heads)), block_threads, 0, stream>>>(
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
