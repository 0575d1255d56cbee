#include "grouped_gemm_variants.hpp"
#include "moesaic/tensor/cuda_memory.hpp"
#include "refuse.hpp"
#include "vector.cuh"

#include <algorithm>

namespace moesaic::cuda {
namespace {

constexpr int tile = 64, depth = 16, block_threads = 256, per_thread = 4;

/// An operand by the distances between its elements along the two axes of the product.
template <class T> struct Operand {
  const T* data;
  std::int64_t outer_stride, inner_stride;  ///< along m (or n) and along the summed k

  /// Zero outside of [outer_extent, inner_extent].
  __device__ float at(std::int64_t outer, std::int64_t outer_extent, std::int64_t inner,
                      std::int64_t inner_extent) const {
    if (outer >= outer_extent || inner >= inner_extent) return 0;
    return widen(data[outer * outer_stride + inner * inner_stride]);
  }
};

/// Rows [begin, end) of one expert and its number.
struct ExpertRows {
  std::int64_t expert, begin, end;
};

/// The sums of one tile: thread (x, y) of 16 x 16 holds rows y + 16 i and columns x + 16 j.
struct Sums {
  float values[per_thread][per_thread] = {};
};

/// Sums over k of a[row, k] * b[column, k], in the order of k, for the tile that starts at (row, column).
template <class T>
__device__ Sums multiply_tile(Operand<T> a, std::int64_t m, std::int64_t row, Operand<T> b, std::int64_t n,
                              std::int64_t column, std::int64_t k) {
  __shared__ float a_tile[depth][tile + 1], b_tile[depth][tile + 1];
  const int x = static_cast<int>(threadIdx.x) % 16, y = static_cast<int>(threadIdx.x) / 16;
  Sums sums;
  for (std::int64_t first = 0; first < k; first += depth) {
    for (int i = static_cast<int>(threadIdx.x); i < depth * tile; i += block_threads) {
      // Neighbouring threads read neighbouring elements, whichever axis that is.
      const int a_inner = a.inner_stride == 1 ? i % depth : i / tile,
                a_outer = a.inner_stride == 1 ? i / depth : i % tile;
      const int b_inner = b.inner_stride == 1 ? i % depth : i / tile,
                b_outer = b.inner_stride == 1 ? i / depth : i % tile;
      a_tile[a_inner][a_outer] = a.at(row + a_outer, m, first + a_inner, k);
      b_tile[b_inner][b_outer] = b.at(column + b_outer, n, first + b_inner, k);
    }
    __syncthreads();
    for (int d = 0; d < depth; ++d) {
#pragma unroll
      for (int i = 0; i < per_thread; ++i) {
#pragma unroll
        for (int j = 0; j < per_thread; ++j) sums.values[i][j] += a_tile[d][y + 16 * i] * b_tile[d][x + 16 * j];
      }
    }
    __syncthreads();
  }
  return sums;
}

/// Calls write(row, column, sum) for what of the tile lies within [m, n].
template <class Write>
__device__ void for_each_sum(const Sums& sums, std::int64_t m, std::int64_t row, std::int64_t n, std::int64_t column,
                             const Write& write) {
  const int x = static_cast<int>(threadIdx.x) % 16, y = static_cast<int>(threadIdx.x) / 16;
#pragma unroll
  for (int i = 0; i < per_thread; ++i) {
#pragma unroll
    for (int j = 0; j < per_thread; ++j) {
      const std::int64_t r = row + y + 16 * i, c = column + x + 16 * j;
      if (r < m && c < n) write(r, c, sums.values[i][j]);
    }
  }
}

/// Row tile number `number` counted through all experts: the rows from it to its expert's end; expert -1 past the last.
__device__ ExpertRows find_row_tile(std::int64_t number, std::int64_t experts, const std::int64_t* offsets) {
  for (std::int64_t e = 0; e < experts; ++e) {
    const std::int64_t tiles = (offsets[e + 1] - offsets[e] + tile - 1) / tile;
    if (number < tiles) return {e, offsets[e] + number * tile, offsets[e + 1]};
    number -= tiles;
  }
  return {-1, 0, 0};
}

template <class T>
__global__ void __launch_bounds__(block_threads)
    grouped_gemm_kernel(std::int64_t experts, const std::int64_t* offsets, std::int64_t n, std::int64_t k,
                        Operand<T> in, Operand<T> weights, std::int64_t expert_stride, T* out,
                        std::int64_t out_stride) {
  const ExpertRows rows = find_row_tile(blockIdx.x, experts, offsets);
  if (rows.expert < 0) return;
  weights.data += rows.expert * expert_stride;
  const std::int64_t column = std::int64_t{blockIdx.y} * tile;
  const Sums sums = multiply_tile(in, rows.end, rows.begin, weights, n, column, k);
  for_each_sum(sums, rows.end, rows.begin, n, column,
               [&](std::int64_t r, std::int64_t c, float sum) { out[r * out_stride + c] = narrow<T>(sum); });
}

template <class T, class Out>
__global__ void __launch_bounds__(block_threads)
    weight_gradient_kernel(const std::int64_t* offsets, std::int64_t n, std::int64_t k, Operand<T> output_gradient,
                           Operand<T> in, bool add, Out* gradient, std::int64_t row_stride,
                           std::int64_t expert_stride) {
  const std::int64_t begin = offsets[blockIdx.z], rows = offsets[blockIdx.z + 1] - begin;
  if (rows == 0 && add) return;
  output_gradient.data += begin * output_gradient.inner_stride;
  in.data += begin * in.inner_stride;
  gradient += blockIdx.z * expert_stride;
  const std::int64_t row = std::int64_t{blockIdx.y} * tile, column = std::int64_t{blockIdx.x} * tile;
  const Sums sums = multiply_tile(output_gradient, n, row, in, k, column, rows);
  for_each_sum(sums, n, row, k, column, [&](std::int64_t r, std::int64_t c, float sum) {
    Out& element = gradient[r * row_stride + c];
    element = narrow<Out>(add ? widen(element) + sum : sum);
  });
}

unsigned tiles_across(std::int64_t extent) { return static_cast<unsigned>(ceil_divide(extent, tile)); }

template <class T>
void multiply(const OperatorContext& context, Transpose transpose, ConstView in, ConstView weights, ConstView offsets,
              View out) {
  const bool forward = transpose == Transpose::yes;
  const Operand<T> a{in.data<T>(), in.stride(0), 1};
  const Operand<T> b{weights.data<T>(), forward ? weights.stride(1) : 1, forward ? 1 : weights.stride(1)};
  // As many row tiles as any routing of these rows can need.
  const auto row_tiles = static_cast<unsigned>(in.extent(0) / tile + weights.extent(0));
  grouped_gemm_kernel<T>
      <<<dim3(row_tiles, tiles_across(out.extent(1))), block_threads, 0, cuda_stream(context.stream)>>>(
          weights.extent(0), offsets.data<std::int64_t>(), out.extent(1), in.extent(1), a, b, weights.stride(0),
          out.data<T>(), out.stride(0));
  check_cuda(cudaGetLastError(), "the grouped product's kernel");
}

template <class T, class Out>
void add_up(const OperatorContext& context, ConstView output_gradient, ConstView in, ConstView offsets, double beta,
            View gradient) {
  const Operand<T> a{output_gradient.data<T>(), 1, output_gradient.stride(0)};
  const Operand<T> b{in.data<T>(), 1, in.stride(0)};
  const dim3 grid(tiles_across(gradient.extent(2)), tiles_across(gradient.extent(1)),
                  static_cast<unsigned>(gradient.extent(0)));
  weight_gradient_kernel<T, Out><<<grid, block_threads, 0, cuda_stream(context.stream)>>>(
      offsets.data<std::int64_t>(), gradient.extent(1), gradient.extent(2), a, b, beta != 0, gradient.data<Out>(),
      gradient.stride(1), gradient.stride(0));
  check_cuda(cudaGetLastError(), "the grouped weight gradient's kernel");
}

}  // namespace

void plain_grouped_gemm(const OperatorContext& context, Transpose transpose_weights, ConstView in, ConstView weights,
                        ConstView offsets, View out) {
  if (in.dtype() == DType::f32) return multiply<float>(context, transpose_weights, in, weights, offsets, out);
  if (in.dtype() == DType::bf16) return multiply<bf16>(context, transpose_weights, in, weights, offsets, out);
  refuse_types("grouped_gemm", in.dtype(), out.dtype(), "f32 and bf16");
}

void plain_grouped_gemm_weight_gradient(const OperatorContext& context, ConstView output_gradient, ConstView in,
                                        ConstView offsets, double beta, View gradient) {
  const DType from = in.dtype(), to = gradient.dtype();
  if (from == DType::f32 && to == DType::f32)
    return add_up<float, float>(context, output_gradient, in, offsets, beta, gradient);
  if (from == DType::bf16 && to == DType::f32)
    return add_up<bf16, float>(context, output_gradient, in, offsets, beta, gradient);
  if (from == DType::bf16 && to == DType::bf16)
    return add_up<bf16, bf16>(context, output_gradient, in, offsets, beta, gradient);
  refuse_types("grouped_gemm_weight_gradient", from, to, "f32 to f32 and bf16 to f32 or bf16");
}

}  // namespace moesaic::cuda
