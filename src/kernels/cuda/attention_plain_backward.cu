#include "attention_problem.cuh"
#include "attention_variants.hpp"
#include "rows.cuh"

namespace moesaic::cuda {
namespace {

template <class T> struct Inputs {
  HeadRows<const T> q, k, v, out_gradient;
  const float* log_sum_exp;  ///< [batch, heads, queries]
  const float* mean;         ///< <out, out_gradient>, likewise

  __device__ std::int64_t row(const AttentionProblem& p, int sequence, int head) const {
    return (std::int64_t{sequence} * p.heads + head) * p.queries;
  }
};

/// mean [batch, heads, queries] = <out, out_gradient>: the probabilities' mean of d loss / d probability. One warp a row.
template <class T>
__global__ void __launch_bounds__(block_threads)
    mean_kernel(AttentionProblem p, std::uint32_t rows, HeadRows<const T> out, HeadRows<const T> out_gradient,
                float* mean) {
  if (warp_number() >= rows) return;
  const auto queries = static_cast<std::uint32_t>(p.queries), heads = static_cast<std::uint32_t>(p.heads);
  const HeadRow row = HeadRow::of(warp_number(), queries, heads);
  float sum = 0;
  for (int c = lane_number(); c < p.value_width; c += warp_lanes) {
    sum += widen(row.in(out)[c]) * widen(row.in(out_gradient)[c]);
  }
  sum = warp_sum(sum);
  if (lane_number() == 0) mean[(row.batch * heads + row.head) * queries + row.position] = sum;
}

/// log_sum_exp and mean of the queries [first, first + side), to shared memory.
__device__ void load_row_values(const float* from, int first, int end, int side, float* to) {
  for (int r = static_cast<int>(threadIdx.x); r < side; r += block_threads) {
    to[r] = first + r < end ? from[first + r] : 0.0f;
  }
}

/// p = exp(scale * score - log_sum_exp), 0 where hidden; score gradient = p (d loss / d p - mean).
__device__ float probability(const AttentionProblem& p, float score, float log_sum_exp, int sequence, int query,
                             int key) {
  return p.visible(sequence, query, key) ? expf(p.scale * score - log_sum_exp) : 0.0f;
}

/// One block a tile of keys of one key head: all queries of its heads in order. dV = P^T dO, dK = scale dS^T Q.
template <class T, class Tile>
__global__ void __launch_bounds__(block_threads)
    key_kernel(AttentionProblem p, Inputs<T> in, HeadRows<T> k_gradient, HeadRows<T> v_gradient) {
  constexpr int count = Tile::count, side = Tile::side;
  extern __shared__ float k_tile[];
  float* q_tile = k_tile + side * tile_stride(p.width);
  float* v_tile = q_tile + side * tile_stride(p.width);
  float* gradient_tile = v_tile + side * tile_stride(p.value_width);
  float* probabilities = gradient_tile + side * tile_stride(p.value_width);
  float* score_gradients = probabilities + side * tile_stride(side);
  float* log_sums = score_gradients + side * tile_stride(side);
  float* means = log_sums + side;
  const int first = static_cast<int>(blockIdx.x) * side, end = min(p.keys, first + side);
  const int key_head = static_cast<int>(blockIdx.y), sequence = static_cast<int>(blockIdx.z);
  const int group = p.heads / p.key_heads, queries_end = p.queries_end(end - 1);
  load_tile(in.k.at(sequence, 0, key_head), in.k.position_stride, first, end, side, p.width, k_tile);
  load_tile(in.v.at(sequence, 0, key_head), in.v.position_stride, first, end, side, p.value_width, v_tile);
  float k_sums[count][Tile::columns] = {}, v_sums[count][Tile::value_columns] = {};
  for (int head = key_head * group; head < (key_head + 1) * group; ++head) {
    const T* q = in.q.at(sequence, 0, head);
    const T* out_gradient = in.out_gradient.at(sequence, 0, head);
    const std::int64_t row = in.row(p, sequence, head);
    for (int query = p.queries_begin(first); query < queries_end; query += side) {
      __syncthreads();
      load_tile(q, in.q.position_stride, query, p.queries, side, p.width, q_tile);
      load_tile(out_gradient, in.out_gradient.position_stride, query, p.queries, side, p.value_width, gradient_tile);
      load_row_values(in.log_sum_exp + row, query, p.queries, side, log_sums);
      load_row_values(in.mean + row, query, p.queries, side, means);
      __syncthreads();
      float scores[count][count], gradients[count][count];  // rows: keys, columns: queries
      multiply_rows(k_tile, q_tile, p.width, scores);
      multiply_rows(v_tile, gradient_tile, p.value_width, gradients);
#pragma unroll
      for (int i = 0; i < count; ++i) {
#pragma unroll
        for (int j = 0; j < count; ++j) {
          const int at = tile_column() + tile_side * j, key = first + tile_row() + tile_side * i;
          scores[i][j] = probability(p, scores[i][j], log_sums[at], sequence, query + at, key);
          gradients[i][j] = scores[i][j] * (gradients[i][j] - means[at]);
        }
      }
      store_square(scores, probabilities);
      store_square(gradients, score_gradients);
      __syncthreads();
      add_product(probabilities, gradient_tile, p.value_width, v_sums);
      add_product(score_gradients, q_tile, p.width, k_sums);
    }
  }
  store_rows(k_sums, p.scale, k_gradient.at(sequence, 0, key_head), k_gradient.position_stride, first, end, p.width);
  store_rows(v_sums, 1.0f, v_gradient.at(sequence, 0, key_head), v_gradient.position_stride, first, end, p.value_width);
}

/// One block a tile of queries of one head: all its keys in order. dQ = scale dS K.
template <class T, class Tile>
__global__ void __launch_bounds__(block_threads)
    query_kernel(AttentionProblem p, Inputs<T> in, HeadRows<T> q_gradient) {
  constexpr int count = Tile::count, side = Tile::side;
  extern __shared__ float q_tile[];
  float* k_tile = q_tile + side * tile_stride(p.width);
  float* v_tile = k_tile + side * tile_stride(p.width);
  float* gradient_tile = v_tile + side * tile_stride(p.value_width);
  float* score_gradients = gradient_tile + side * tile_stride(p.value_width);
  float* log_sums = score_gradients + side * tile_stride(side);
  float* means = log_sums + side;
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * side, end = min(p.queries, first + side);
  const int head = static_cast<int>(blockIdx.y), sequence = static_cast<int>(blockIdx.z);
  const int key_head = head / (p.heads / p.key_heads);
  const T* k = in.k.at(sequence, 0, key_head);
  const T* v = in.v.at(sequence, 0, key_head);
  load_tile(in.q.at(sequence, 0, head), in.q.position_stride, first, end, side, p.width, q_tile);
  load_tile(in.out_gradient.at(sequence, 0, head), in.out_gradient.position_stride, first, end, side, p.value_width,
            gradient_tile);
  load_row_values(in.log_sum_exp + in.row(p, sequence, head), first, end, side, log_sums);
  load_row_values(in.mean + in.row(p, sequence, head), first, end, side, means);
  float sums[count][Tile::columns] = {};
  const int keys_end = p.keys_end(end - 1);
  for (int key = p.keys_begin(first); key < keys_end; key += side) {
    __syncthreads();
    load_tile(k, in.k.position_stride, key, p.keys, side, p.width, k_tile);
    load_tile(v, in.v.position_stride, key, p.keys, side, p.value_width, v_tile);
    __syncthreads();
    float scores[count][count], gradients[count][count];  // rows: queries, columns: keys
    multiply_rows(q_tile, k_tile, p.width, scores);
    multiply_rows(gradient_tile, v_tile, p.value_width, gradients);
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const int at = tile_row() + tile_side * i;
#pragma unroll
      for (int j = 0; j < count; ++j) {
        const int seen = key + tile_column() + tile_side * j;
        const float weight = probability(p, scores[i][j], log_sums[at], sequence, first + at, seen);
        gradients[i][j] = weight * (gradients[i][j] - means[at]);
      }
    }
    store_square(gradients, score_gradients);
    __syncthreads();
    add_product(score_gradients, k_tile, p.width, sums);
  }
  store_rows(sums, p.scale, q_gradient.at(sequence, 0, head), q_gradient.position_stride, first, end, p.width);
}

template <class T>
void compute_mean(const OperatorContext& context, const AttentionProblem& p, ConstView out, ConstView out_gradient,
                  float* mean) {
  const std::int64_t rows = std::int64_t{p.batch} * p.heads * p.queries;
  if (rows == 0) return;
  mean_kernel<T><<<blocks_for(rows, block_warps), block_threads, 0, cuda_stream(context.stream)>>>(
      p, static_cast<std::uint32_t>(rows), head_rows<const T>(out), head_rows<const T>(out_gradient), mean);
  check_cuda(cudaGetLastError(), "the attention mean kernel");
}

}  // namespace

void plain_attention_backward(const OperatorContext& context, const AttentionMask& mask, double scale, ConstView q,
                              ConstView k, ConstView v, ConstView out, ConstView log_sum_exp, ConstView out_gradient,
                              View q_gradient, View k_gradient, View v_gradient) {
  const AttentionProblem p(mask, scale, q, k, v);
  if (p.batch == 0 || p.heads == 0) return;
  const Tensor mean = context.arena->tensor(DType::f32, {p.batch, p.heads, p.queries}, Label::workspace);
  with_storage("attention_backward", q.dtype(), [&]<class T>(T) {
    compute_mean<T>(context, p, out, out_gradient, mean.view().data<float>());
    const Inputs<T> in{head_rows<const T>(q),     head_rows<const T>(k),
                       head_rows<const T>(v),     head_rows<const T>(out_gradient),
                       log_sum_exp.data<float>(), mean.view().data<float>()};
    with_attention_tile(p, [&]<class Tile>(Tile) {
      if (p.keys > 0) {
        launch_attention(context, key_kernel<T, Tile>, {.keys = 2, .values = 2, .squares = 2, .rows = 2}, Tile::side,
                         p.keys, p.key_heads, p, in, head_rows<T>(k_gradient), head_rows<T>(v_gradient));
      }
      if (p.queries > 0) {
        launch_attention(context, query_kernel<T, Tile>, {.keys = 2, .values = 2, .squares = 1, .rows = 2}, Tile::side,
                         p.queries, p.heads, p, in, head_rows<T>(q_gradient));
      }
    });
  });
}

}  // namespace moesaic::cuda
