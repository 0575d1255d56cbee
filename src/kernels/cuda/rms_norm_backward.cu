#include "moesaic/kernels/rms_norm.hpp"

#include "moesaic/tensor/cuda_memory.hpp"
#include "norm_rows.cuh"
#include "partial_sums.hpp"
#include "rms_norm_variants.hpp"

#include <algorithm>

namespace moesaic::cuda {
namespace {

/// Arguments of RmsNormBackward; partials [blocks, width]: the weight's gradient from each block's rows alone.
template <class T> struct Gradients {
  std::uint32_t rows, chunk_rows;
  int width;
  bool add;
  Rows<const T> x;
  const T* weight;
  const float* inverse_rms;
  Rows<const T> output_gradient;
  Rows<T> x_gradient;
  float* partials;
};

/// One row in registers: `vectors` vectors a thread of each of x, the output's gradient and what x_gradient holds.
template <class T, int count, int vectors> struct KeptRow {
  Vector<T, count> x[vectors], gradient[vectors], sum[vectors];

  /// Without branches, which would wait for each load; columns beyond the width hold those of column 0.
  __device__ void read(const Gradients<T>& all, std::uint32_t row, int first, int step) {
    const T* x_row = all.x[row];
    const T* gradient_row = all.output_gradient[row];
    const T* sum_row = all.add ? all.x_gradient[row] : x_row;
#pragma unroll
    for (int v = 0; v < vectors; ++v) {
      const int c = first + v * step < all.width ? first + v * step : 0;
      x[v] = *reinterpret_cast<const Vector<T, count>*>(x_row + c);
      gradient[v] = *reinterpret_cast<const Vector<T, count>*>(gradient_row + c);
      sum[v] = *reinterpret_cast<const Vector<T, count>*>(sum_row + c);
    }
  }

  /// This thread's part of <output_gradient * weight, x>.
  __device__ float product(const Gradients<T>& all, int first, int step) const {
    float result = 0;
#pragma unroll
    for (int v = 0; v < vectors; ++v) {
      if (first + v * step >= all.width) continue;
      float factors[count];
      load(all.weight + first + v * step, factors);
#pragma unroll
      for (int i = 0; i < count; ++i) result += widen(gradient[v].elements[i]) * factors[i] * widen(x[v].elements[i]);
    }
    return result;
  }

  /// Writes x_gradient and adds to the sums of the weight's gradient.
  __device__ void finish(const Gradients<T>& all, std::uint32_t row, int first, int step, float r, float slope,
                         float (&sums)[vectors][count]) const {
#pragma unroll
    for (int v = 0; v < vectors; ++v) {
      const int c = first + v * step;
      if (c >= all.width) continue;
      float factors[count], result[count];
      load(all.weight + c, factors);
#pragma unroll
      for (int i = 0; i < count; ++i) {
        const float x_value = widen(x[v].elements[i]), g = widen(gradient[v].elements[i]);
        sums[v][i] += g * x_value * r;
        result[i] = (all.add ? widen(sum[v].elements[i]) : 0.0f) + r * (g * factors[i] - x_value * slope);
      }
      store(result, all.x_gradient[row] + c);
    }
  }
};

/// Sums over the groups of threads that share no row, in order; where each row has the whole block there is one.
template <int count, int threads, int vectors>
__device__ void write_partials(const float (&sums)[vectors][count], int width, float* partials) {
  const int step = row_threads<threads>() * count;
  const int first = static_cast<int>(threadIdx.x) % row_threads<threads>() * count;
  float* row = partials + std::int64_t{blockIdx.x} * width;
#pragma unroll
  for (int v = 0; v < vectors; ++v) {
    if constexpr (threads == whole_block) {
      if (first + v * step < width) store(sums[v], row + first + v * step);
    } else {
      constexpr int groups = block_threads / threads;
      __shared__ float shared[groups][threads * count];
      __syncthreads();
#pragma unroll
      for (int i = 0; i < count; ++i) shared[threadIdx.x / threads][first + i] = sums[v][i];
      __syncthreads();
      for (int c = static_cast<int>(threadIdx.x); c < step && c + v * step < width; c += block_threads) {
        float sum = 0;
        for (int group = 0; group < groups; ++group) sum += shared[group][c];
        row[c + v * step] = sum;
      }
    }
  }
}

/// One block a chunk of rows, `threads` threads a row. Each thread keeps its columns' sums over the rows it sees, and
/// reads the next row before it waits for the others' part of this one.
template <class T, int count, int threads, int vectors>
__global__ void __launch_bounds__(512, vectors == 1 ? 2 : 1) backward_kernel(Gradients<T> all) {
  const std::uint32_t at_once = threads == whole_block ? 1 : block_threads / threads;
  const int step = row_threads<threads>() * count;
  const int first = static_cast<int>(threadIdx.x) % row_threads<threads>() * count;
  const std::uint32_t begin = blockIdx.x * all.chunk_rows, end = min(all.rows, begin + all.chunk_rows);
  std::uint32_t row = begin + threadIdx.x / static_cast<std::uint32_t>(row_threads<threads>());
  float sums[vectors][count] = {};
  KeptRow<T, count, vectors> next;
  next.read(all, min(row, end - 1), first, step);
  int parity = 0;
  for (std::uint32_t base = begin; base < end; base += at_once, row += at_once, parity ^= 1) {
    const KeptRow<T, count, vectors> kept = next;
    const bool active = row < end;
    const float r = all.inverse_rms[active ? row : end - 1];
    if (vectors == 1) next.read(all, min(row + at_once, end - 1), first, step);
    const float product = sum_over_row<threads>(kept.product(all, first, step), parity);
    if (active) kept.finish(all, row, first, step, r, r * r * product / static_cast<float>(all.width), sums);
    if (vectors > 1) next.read(all, min(row + at_once, end - 1), first, step);
  }
  write_partials<count, threads, vectors>(sums, all.width, all.partials);
}

/// Rows of one block: about as many blocks as an H100's 132 multiprocessors hold of them. Depends on the shape alone.
std::int64_t chunk_rows_of(std::int64_t rows, std::int64_t rows_at_once, std::int64_t kept) {
  return ceil_divide(ceil_divide(rows, rows_at_once), 132 * std::max<std::int64_t>(1, 1024 / kept)) * rows_at_once;
}

}  // namespace

void rms_norm_backward(const OperatorContext& context, ConstView x, ConstView weight, ConstView inverse_rms,
                       ConstView output_gradient, double beta, View x_gradient, View weight_gradient) {
  const std::int64_t rows = row_count(x), width = x.extent(x.rank() - 1), count = 16 / size_of(x.dtype());
  if (rows == 0 || width == 0) return;
  if (!vectors_fit(x) || !vectors_fit(weight) || !vectors_fit(output_gradient) || !vectors_fit(x_gradient) ||
      width / count > most_kept_vectors)
    return plain_rms_norm_backward(context, x, weight, inverse_rms, output_gradient, beta, x_gradient, weight_gradient);
  with_storage("rms_norm_backward", x.dtype(), [&]<class T>(T) {
    with_kept_row(width / count, [&]<int threads, int vectors>(Constant<threads>, Constant<vectors>, int block) {
      const std::int64_t chunk_rows = chunk_rows_of(rows, rows_at_once(threads), block * vectors);
      const std::int64_t chunks = ceil_divide(rows, chunk_rows);
      const Tensor partials = context.arena->tensor(DType::f32, {chunks, width}, Label::workspace);
      const Gradients<T> all{static_cast<std::uint32_t>(rows),
                             static_cast<std::uint32_t>(chunk_rows),
                             static_cast<int>(width),
                             beta != 0,
                             rows_of<const T>(x),
                             weight.data<T>(),
                             inverse_rms.data<float>(),
                             rows_of<const T>(output_gradient),
                             rows_of<T>(x_gradient),
                             partials.view().data<float>()};
      backward_kernel<T, static_cast<int>(16 / sizeof(T)), threads, vectors>
          <<<static_cast<unsigned>(chunks), static_cast<unsigned>(block), 0, cuda_stream(context.stream)>>>(all);
      check_cuda(cudaGetLastError(), "the RMSNorm backward kernel");
      add_partial_sums(context, partials, weight_gradient);
    });
  });
}

}  // namespace moesaic::cuda
