#include "moesaic/kernels/rms_norm.hpp"

#include "moesaic/kernels/elementwise.hpp"
#include "moesaic/tensor/cuda_memory.hpp"
#include "norm_rows.cuh"

namespace moesaic::cuda {
namespace {

/// `threads` threads a row, as many rows a block as it has room for. The second pass finds x in the cache.
template <class T, int count, int threads>
__global__ void __launch_bounds__(block_threads)
    forward_kernel(std::uint32_t rows, int width, float eps, Rows<const T> x, const T* weight, Rows<T> y,
                   float* inverse_rms) {
  const int step = row_threads<threads>() * count;
  const std::uint32_t row = thread_number() / static_cast<std::uint32_t>(row_threads<threads>());
  const int first = static_cast<int>(threadIdx.x) % row_threads<threads>() * count;
  const bool active = row < rows;
  const T* x_row = x[active ? row : 0];
  float values[count], factors[count], squares = 0;
  for (int c = first; c < width; c += step) {
    load(x_row + c, values);
#pragma unroll
    for (int i = 0; i < count; ++i) squares += values[i] * values[i];
  }
  const float r = rsqrtf(sum_over_row<threads>(squares) / static_cast<float>(width) + eps);
  if (!active) return;
  for (int c = first; c < width; c += step) {
    load(x_row + c, values);
    load(weight + c, factors);
#pragma unroll
    for (int i = 0; i < count; ++i) values[i] *= r * factors[i];
    store(values, y[row] + c);
  }
  if (first == 0) inverse_rms[row] = r;
}

/// As above of x + residual, which the threads keep: `vectors` vectors each.
template <class T, int count, int threads, int vectors>
__global__ void __launch_bounds__(512)
    residual_forward_kernel(std::uint32_t rows, int width, float eps, Rows<const T> residual, const T* weight,
                            Rows<T> x, Rows<T> y, float* inverse_rms) {
  const int step = row_threads<threads>() * count;
  const std::uint32_t row = thread_number() / static_cast<std::uint32_t>(row_threads<threads>());
  const int first = static_cast<int>(threadIdx.x) % row_threads<threads>() * count;
  const bool active = row < rows;
  float sums[vectors][count], factors[count], squares = 0;
#pragma unroll
  for (int v = 0; v < vectors; ++v) {
    const int c = first + v * step;
    if (!active || c >= width) continue;
    float added[count];
    load(x[row] + c, sums[v]);
    load(residual[row] + c, added);
#pragma unroll
    for (int i = 0; i < count; ++i) {
      sums[v][i] = widen(narrow<T>(sums[v][i] + added[i]));
      squares += sums[v][i] * sums[v][i];
    }
    store(sums[v], x[row] + c);
  }
  const float r = rsqrtf(sum_over_row<threads>(squares) / static_cast<float>(width) + eps);
  if (!active) return;
#pragma unroll
  for (int v = 0; v < vectors; ++v) {
    const int c = first + v * step;
    if (c >= width) continue;
    load(weight + c, factors);
#pragma unroll
    for (int i = 0; i < count; ++i) sums[v][i] *= r * factors[i];
    store(sums[v], y[row] + c);
  }
  if (first == 0) inverse_rms[row] = r;
}

}  // namespace

void rms_norm_forward(const OperatorContext& context, ConstView x, ConstView weight, double eps, View y,
                      View inverse_rms) {
  const std::int64_t rows = row_count(x), width = x.extent(x.rank() - 1);
  if (rows == 0 || width == 0) return;
  const bool vectors = vectors_fit(x) && vectors_fit(y) && vectors_fit(weight);
  with_vectors("rms_norm_forward", x.dtype(), vectors, [&]<class T, int count>(T, Constant<count>) {
    with_threads(width / count, [&]<int threads>(Constant<threads>) {
      forward_kernel<T, count, threads>
          <<<blocks_for(rows, rows_at_once(threads)), block_threads, 0, cuda_stream(context.stream)>>>(
              static_cast<std::uint32_t>(rows), static_cast<int>(width), static_cast<float>(eps), rows_of<const T>(x),
              weight.data<T>(), rows_of<T>(y), inverse_rms.data<float>());
    });
  });
  check_cuda(cudaGetLastError(), "the RMSNorm forward kernel");
}

void rms_norm_residual_forward(const OperatorContext& context, ConstView residual, ConstView weight, double eps, View x,
                               View y, View inverse_rms) {
  const std::int64_t rows = row_count(x), width = x.extent(x.rank() - 1);
  if (rows == 0 || width == 0) return;
  const std::int64_t count = 16 / size_of(x.dtype());
  if (!vectors_fit(x) || !vectors_fit(residual) || !vectors_fit(y) || !vectors_fit(weight) ||
      width / count > most_kept_vectors) {
    accumulate(context, residual, x);
    return rms_norm_forward(context, x, weight, eps, y, inverse_rms);
  }
  with_storage("rms_norm_residual_forward", x.dtype(), [&]<class T>(T) {
    constexpr int elements = 16 / sizeof(T);
    with_kept_row(width / elements, [&]<int threads, int vectors>(Constant<threads>, Constant<vectors>, int block) {
      residual_forward_kernel<T, elements, threads, vectors>
          <<<blocks_for(rows, rows_at_once(threads)), block, 0, cuda_stream(context.stream)>>>(
              static_cast<std::uint32_t>(rows), static_cast<int>(width), static_cast<float>(eps),
              rows_of<const T>(residual), weight.data<T>(), rows_of<T>(x), rows_of<T>(y), inverse_rms.data<float>());
    });
  });
  check_cuda(cudaGetLastError(), "the RMSNorm kernel with a residual");
}

}  // namespace moesaic::cuda
