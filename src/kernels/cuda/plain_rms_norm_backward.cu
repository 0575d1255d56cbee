#include "moesaic/tensor/cuda_memory.hpp"

#include "column_sums.cuh"
#include "norm_rows.cuh"
#include "partial_sums.hpp"
#include "rms_norm_variants.hpp"

#include <algorithm>

namespace moesaic::cuda {
namespace {

/// x_gradient = beta * x_gradient + r * (g - x * r^2 * mean(g * x)), g = output_gradient * weight.
template <class T, int count, int threads>
__global__ void __launch_bounds__(block_threads)
    backward_kernel(std::uint32_t rows, int width, bool add, Rows<const T> x, const T* weight, const float* inverse_rms,
                    Rows<const T> output_gradient, Rows<T> x_gradient) {
  const int step = row_threads<threads>() * count;
  const std::uint32_t row = thread_number() / static_cast<std::uint32_t>(row_threads<threads>());
  const int first = static_cast<int>(threadIdx.x) % row_threads<threads>() * count;
  const bool active = row < rows;
  const T* x_row = x[active ? row : 0];
  const T* gradient_row = output_gradient[active ? row : 0];
  float values[count], gradients[count], factors[count], product = 0;
  for (int c = first; c < width; c += step) {
    load(x_row + c, values);
    load(gradient_row + c, gradients);
    load(weight + c, factors);
#pragma unroll
    for (int i = 0; i < count; ++i) product += gradients[i] * factors[i] * values[i];
  }
  product = sum_over_row<threads>(product);
  if (!active) return;
  const float r = inverse_rms[row], slope = r * r * product / static_cast<float>(width);
  for (int c = first; c < width; c += step) {
    load(x_row + c, values);
    load(gradient_row + c, gradients);
    load(weight + c, factors);
    float result[count] = {};
    if (add) load(x_gradient[row] + c, result);
#pragma unroll
    for (int i = 0; i < count; ++i) result[i] += r * (gradients[i] * factors[i] - values[i] * slope);
    store(result, x_gradient[row] + c);
  }
}

/// partials [chunks, width]: the weight's gradient from each chunk of rows (blockIdx.y) alone.
template <class T, int count>
__global__ void __launch_bounds__(tile_lanes* tile_depth)
    weight_gradient_kernel(std::uint32_t rows, std::uint32_t chunk_rows, int width, Rows<const T> x,
                           const float* inverse_rms, Rows<const T> output_gradient, float* partials) {
  const int c = static_cast<int>(blockIdx.x * tile_lanes + threadIdx.x) * count;
  const std::uint32_t begin = blockIdx.y * chunk_rows, end = min(rows, begin + chunk_rows);
  float values[count], gradients[count], sums[count] = {};
  for (std::uint32_t row = begin + threadIdx.y; c < width && row < end; row += tile_depth) {
    load(x[row] + c, values);
    load(output_gradient[row] + c, gradients);
    const float r = inverse_rms[row];
#pragma unroll
    for (int i = 0; i < count; ++i) sums[i] += gradients[i] * values[i] * r;
  }
  sum_over_tile(sums);
  if (threadIdx.y == 0 && c < width) store(sums, partials + std::int64_t{blockIdx.y} * width + c);
}

/// Rows of one partial sum: at least 32, and at most 512 chunks. Depends on the number of rows alone.
std::int64_t chunk_rows_of(std::int64_t rows) { return std::max<std::int64_t>(32, ceil_divide(rows, 512)); }

template <class T, int count>
void add_weight_gradient(const OperatorContext& context, ConstView x, ConstView inverse_rms, ConstView output_gradient,
                         View weight_gradient) {
  const std::int64_t rows = row_count(x), width = x.extent(x.rank() - 1), chunk_rows = chunk_rows_of(rows);
  const std::int64_t chunks = ceil_divide(rows, chunk_rows);
  const Tensor partials = context.arena->tensor(DType::f32, {chunks, width}, Label::workspace);
  const dim3 grid(blocks_for(width, tile_lanes * count), static_cast<unsigned>(chunks));
  weight_gradient_kernel<T, count><<<grid, dim3(tile_lanes, tile_depth), 0, cuda_stream(context.stream)>>>(
      static_cast<std::uint32_t>(rows), static_cast<std::uint32_t>(chunk_rows), static_cast<int>(width),
      rows_of<const T>(x), inverse_rms.data<float>(), rows_of<const T>(output_gradient), partials.view().data<float>());
  check_cuda(cudaGetLastError(), "the RMSNorm weight gradient kernel");
  add_partial_sums(context, partials, weight_gradient);
}

}  // namespace

void plain_rms_norm_backward(const OperatorContext& context, ConstView x, ConstView weight, ConstView inverse_rms,
                             ConstView output_gradient, double beta, View x_gradient, View weight_gradient) {
  const std::int64_t rows = row_count(x), width = x.extent(x.rank() - 1);
  if (rows == 0 || width == 0) return;
  const bool vectors = vectors_fit(x) && vectors_fit(weight) && vectors_fit(output_gradient) && vectors_fit(x_gradient);
  with_vectors("rms_norm_backward", x.dtype(), vectors, [&]<class T, int count>(T, Constant<count>) {
    // The weight's gradient comes first: x_gradient may be output_gradient.
    add_weight_gradient<T, count>(context, x, inverse_rms, output_gradient, weight_gradient);
    with_threads(width / count, [&]<int threads>(Constant<threads>) {
      backward_kernel<T, count, threads>
          <<<blocks_for(rows, rows_at_once(threads)), block_threads, 0, cuda_stream(context.stream)>>>(
              static_cast<std::uint32_t>(rows), static_cast<int>(width), beta != 0, rows_of<const T>(x),
              weight.data<T>(), inverse_rms.data<float>(), rows_of<const T>(output_gradient), rows_of<T>(x_gradient));
    });
  });
  check_cuda(cudaGetLastError(), "the plain RMSNorm backward kernel");
}

}  // namespace moesaic::cuda
