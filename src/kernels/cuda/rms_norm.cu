#include "moesaic/kernels/rms_norm.hpp"

#include "moesaic/tensor/cuda_memory.hpp"
#include "refuse.hpp"
#include "vector.cuh"

#include <algorithm>
#include <type_traits>

namespace moesaic::cuda {
namespace {

constexpr int block_threads = 256;

/// Finds the rows of a strided [rows, width] or [tokens, heads, width] view.
template <class T> struct Rows {
  T* data;
  std::uint32_t heads;
  std::int64_t token_stride, head_stride;

  __device__ T* operator[](std::uint32_t row) const {
    if (heads == 1) return data + row * token_stride;
    return data + row / heads * token_stride + row % heads * head_stride;
  }
};

template <class T, class Void> Rows<T> rows_of(const BasicView<Void>& view) {
  auto* data = static_cast<T*>(view.raw());
  if (view.rank() == 2) return {data, 1, view.stride(0), 0};
  return {data, static_cast<std::uint32_t>(view.extent(1)), view.stride(0), view.stride(1)};
}

/// Sum over the `threads` neighbouring threads that share a row, the same in all of them, in a fixed order.
template <int threads> __device__ float sum_over_row(float value) {
  constexpr int lanes = threads < 32 ? threads : 32;
#pragma unroll
  for (int distance = lanes / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(~0u, value, distance);
  if constexpr (threads > 32) {
    __shared__ float warp_sums[threads / 32];
    if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = value;
    __syncthreads();
    value = 0;
#pragma unroll
    for (int warp = 0; warp < threads / 32; ++warp) value += warp_sums[warp];
  }
  return value;
}

/// `threads` threads a row, block_threads / threads rows a block. The second pass finds x in the cache.
template <class T, int count, int threads>
__global__ void __launch_bounds__(block_threads)
    forward_kernel(std::uint32_t rows, int width, float eps, Rows<const T> x, const T* weight, Rows<T> y,
                   float* inverse_rms) {
  const std::uint32_t row = blockIdx.x * (block_threads / threads) + threadIdx.x / threads;
  const int first = static_cast<int>(threadIdx.x) % threads * count;
  const bool active = row < rows;
  const T* x_row = x[active ? row : 0];
  float values[count], factors[count], squares = 0;
  for (int c = first; c < width; c += threads * count) {
    load(x_row + c, values);
#pragma unroll
    for (int i = 0; i < count; ++i) squares += values[i] * values[i];
  }
  const float r = rsqrtf(sum_over_row<threads>(squares) / static_cast<float>(width) + eps);
  if (!active) return;
  for (int c = first; c < width; c += threads * count) {
    load(x_row + c, values);
    load(weight + c, factors);
#pragma unroll
    for (int i = 0; i < count; ++i) values[i] *= r * factors[i];
    store(values, y[row] + c);
  }
  if (first == 0) inverse_rms[row] = r;
}

/// x_gradient = beta * x_gradient + r * (g - x * r^2 * mean(g * x)), g = output_gradient * weight.
template <class T, int count, int threads>
__global__ void __launch_bounds__(block_threads)
    backward_kernel(std::uint32_t rows, int width, bool add, Rows<const T> x, const T* weight, const float* inverse_rms,
                    Rows<const T> output_gradient, Rows<T> x_gradient) {
  const std::uint32_t row = blockIdx.x * (block_threads / threads) + threadIdx.x / threads;
  const int first = static_cast<int>(threadIdx.x) % threads * count;
  const bool active = row < rows;
  const T* x_row = x[active ? row : 0];
  const T* gradient_row = output_gradient[active ? row : 0];
  float values[count], gradients[count], factors[count], product = 0;
  for (int c = first; c < width; c += threads * count) {
    load(x_row + c, values);
    load(gradient_row + c, gradients);
    load(weight + c, factors);
#pragma unroll
    for (int i = 0; i < count; ++i) product += gradients[i] * factors[i] * values[i];
  }
  product = sum_over_row<threads>(product);
  if (!active) return;
  const float r = inverse_rms[row], slope = r * r * product / static_cast<float>(width);
  for (int c = first; c < width; c += threads * count) {
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

constexpr int tile_lanes = 32, tile_depth = 8;

/// Adds up what the tile_depth threads of a column hold, in order; the result is with threadIdx.y = 0.
template <int count> __device__ void sum_over_tile(float (&sums)[count]) {
  __shared__ float shared[tile_depth][tile_lanes * count];
#pragma unroll
  for (int i = 0; i < count; ++i) shared[threadIdx.y][i * tile_lanes + threadIdx.x] = sums[i];
  __syncthreads();
  if (threadIdx.y != 0) return;
  for (int depth = 1; depth < tile_depth; ++depth) {
#pragma unroll
    for (int i = 0; i < count; ++i) sums[i] += shared[depth][i * tile_lanes + threadIdx.x];
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

/// weight_gradient [width] += the chunks' partial sums, in a fixed order.
__global__ void __launch_bounds__(tile_lanes* tile_depth)
    add_partials_kernel(int chunks, int width, const float* partials, float* weight_gradient) {
  const int c = static_cast<int>(blockIdx.x * tile_lanes + threadIdx.x);
  float sums[1] = {};
  for (int chunk = static_cast<int>(threadIdx.y); c < width && chunk < chunks; chunk += tile_depth) {
    sums[0] += partials[std::int64_t{chunk} * width + c];
  }
  sum_over_tile(sums);
  if (threadIdx.y == 0 && c < width) weight_gradient[c] += sums[0];
}

std::int64_t row_count(const ConstView& x) { return x.rank() == 2 ? x.extent(0) : x.extent(0) * x.extent(1); }

/// True when every row of the view starts where 16 bytes can be loaded at once.
bool vectors_fit(const ConstView& view) {
  const std::int64_t size = size_of(view.dtype());
  bool fit = aligned(view.raw(), 16) && view.extent(view.rank() - 1) * size % 16 == 0;
  for (int i = 0; i + 1 < view.rank(); ++i) fit = fit && view.stride(i) * size % 16 == 0;
  return fit;
}

template <int value> using Constant = std::integral_constant<int, value>;

/// body(T, elements a vector): T the storage type, 16 bytes a vector where all of the views allow it, else one element.
template <class Body> void with_vectors(DType type, bool vectors, const Body& body) {
  if (type == DType::f32) return vectors ? body(float{}, Constant<4>{}) : body(float{}, Constant<1>{});
  if (type == DType::bf16) return vectors ? body(bf16{}, Constant<8>{}) : body(bf16{}, Constant<1>{});
  refuse_types("rms_norm", type, type, "f32 and bf16");
}

/// body(threads a row): few for short rows (heads), a block for long ones.
template <class Body> void with_threads(std::int64_t vectors_per_row, const Body& body) {
  if (vectors_per_row <= 16) return body(Constant<16>{});
  if (vectors_per_row <= 64) return body(Constant<32>{});
  body(Constant<block_threads>{});
}

unsigned row_blocks(std::int64_t rows, int threads_per_row) {
  return static_cast<unsigned>(ceil_divide(rows, block_threads / threads_per_row));
}

/// Rows of one partial sum: at least 32, and at most 512 chunks. Depends on the number of rows alone.
std::int64_t chunk_rows_of(std::int64_t rows) { return std::max<std::int64_t>(32, ceil_divide(rows, 512)); }

template <class T, int count>
void add_weight_gradient(const OperatorContext& context, ConstView x, ConstView inverse_rms, ConstView output_gradient,
                         View weight_gradient) {
  const std::int64_t rows = row_count(x), width = x.extent(x.rank() - 1), chunk_rows = chunk_rows_of(rows);
  const std::int64_t chunks = ceil_divide(rows, chunk_rows);
  const Tensor partials = context.arena->tensor(DType::f32, {chunks, width}, Label::workspace);
  float* sums = partials.view().data<float>();
  const dim3 tile(tile_lanes, tile_depth);
  const dim3 grid(static_cast<unsigned>(ceil_divide(width, tile_lanes * count)), static_cast<unsigned>(chunks));
  const cudaStream_t stream = cuda_stream(context.stream);
  weight_gradient_kernel<T, count><<<grid, tile, 0, stream>>>(
      static_cast<std::uint32_t>(rows), static_cast<std::uint32_t>(chunk_rows), static_cast<int>(width),
      rows_of<const T>(x), inverse_rms.data<float>(), rows_of<const T>(output_gradient), sums);
  check_cuda(cudaGetLastError(), "the RMSNorm weight gradient kernel");
  add_partials_kernel<<<static_cast<unsigned>(ceil_divide(width, tile_lanes)), tile, 0, stream>>>(
      static_cast<int>(chunks), static_cast<int>(width), sums, weight_gradient.data<float>());
  check_cuda(cudaGetLastError(), "the RMSNorm partial sums kernel");
}

}  // namespace

void rms_norm_forward(const OperatorContext& context, ConstView x, ConstView weight, double eps, View y,
                      View inverse_rms) {
  const std::int64_t rows = row_count(x), width = x.extent(x.rank() - 1);
  if (rows == 0 || width == 0) return;
  const bool vectors = vectors_fit(x) && vectors_fit(y) && vectors_fit(weight);
  with_vectors(x.dtype(), vectors, [&]<class T, int count>(T, Constant<count>) {
    with_threads(width / count, [&]<int threads>(Constant<threads>) {
      forward_kernel<T, count, threads><<<row_blocks(rows, threads), block_threads, 0, cuda_stream(context.stream)>>>(
          static_cast<std::uint32_t>(rows), static_cast<int>(width), static_cast<float>(eps), rows_of<const T>(x),
          weight.data<T>(), rows_of<T>(y), inverse_rms.data<float>());
    });
  });
  check_cuda(cudaGetLastError(), "the RMSNorm forward kernel");
}

void rms_norm_backward(const OperatorContext& context, ConstView x, ConstView weight, ConstView inverse_rms,
                       ConstView output_gradient, double beta, View x_gradient, View weight_gradient) {
  const std::int64_t rows = row_count(x), width = x.extent(x.rank() - 1);
  if (rows == 0 || width == 0) return;
  const bool vectors = vectors_fit(x) && vectors_fit(weight) && vectors_fit(output_gradient) && vectors_fit(x_gradient);
  with_vectors(x.dtype(), vectors, [&]<class T, int count>(T, Constant<count>) {
    // The weight's gradient comes first: x_gradient may be output_gradient.
    add_weight_gradient<T, count>(context, x, inverse_rms, output_gradient, weight_gradient);
    with_threads(width / count, [&]<int threads>(Constant<threads>) {
      backward_kernel<T, count, threads><<<row_blocks(rows, threads), block_threads, 0, cuda_stream(context.stream)>>>(
          static_cast<std::uint32_t>(rows), static_cast<int>(width), beta != 0, rows_of<const T>(x), weight.data<T>(),
          inverse_rms.data<float>(), rows_of<const T>(output_gradient), rows_of<T>(x_gradient));
    });
  });
  check_cuda(cudaGetLastError(), "the RMSNorm backward kernel");
}

}  // namespace moesaic::cuda
