#include "attention_problem.cuh"
#include "attention_variants.hpp"
#include "rows.cuh"

namespace moesaic::cuda {
namespace {

template <class T> struct Inputs { HeadRows<const T> q, k, v; };

/// The running maximum and sum of exponentials of this thread's rows; the 16 threads of a row hold the same.
template <int count> struct Softmax {
  float largest[count], sum[count];

  __device__ Softmax() {
#pragma unroll
    for (int i = 0; i < count; ++i) largest[i] = -INFINITY, sum[i] = 0;
  }

  /// Turns scores into exponentials relative to the new maximum; returns what earlier sums are to be multiplied by.
  __device__ float add(int i, float (&scores)[count]) {
    float maximum = largest[i];
#pragma unroll
    for (int j = 0; j < count; ++j) maximum = fmaxf(maximum, scores[j]);
    maximum = warp_max<tile_side>(maximum);
    // Where nothing is visible yet all scores are -inf: any finite shift makes their exponentials 0.
    const float shift = maximum == -INFINITY ? 0.0f : maximum, correction = expf(largest[i] - shift);
    float more = 0;
#pragma unroll
    for (int j = 0; j < count; ++j) more += scores[j] = expf(scores[j] - shift);
    sum[i] = sum[i] * correction + warp_sum<tile_side>(more);
    largest[i] = maximum;
    return correction;
  }
};

/// One block a tile of queries of one head.
template <class T, class Tile>
__global__ void __launch_bounds__(block_threads)
    forward_kernel(AttentionProblem p, Inputs<T> in, HeadRows<T> out, float* log_sum_exp) {
  constexpr int count = Tile::count, columns = Tile::value_columns, side = Tile::side;
  extern __shared__ float q_tile[];
  float* k_tile = q_tile + side * tile_stride(p.width);
  float* v_tile = k_tile + side * tile_stride(p.width);
  float* exponentials = v_tile + side * tile_stride(p.value_width);
  // The last queries see most keys: they go first, so that blocks end together.
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * side, end = min(p.queries, first + side);
  const int head = static_cast<int>(blockIdx.y), sequence = static_cast<int>(blockIdx.z);
  const int key_head = head / (p.heads / p.key_heads);
  const T* k = in.k.at(sequence, 0, key_head);
  const T* v = in.v.at(sequence, 0, key_head);
  load_tile(in.q.at(sequence, 0, head), in.q.position_stride, first, end, side, p.width, q_tile);
  Softmax<count> softmax;
  float sums[count][columns] = {};
  const int keys_end = p.keys_end(end - 1);
  for (int key = p.keys_begin(first); key < keys_end; key += side) {
    __syncthreads();
    load_tile(k, in.k.position_stride, key, p.keys, side, p.width, k_tile);
    load_tile(v, in.v.position_stride, key, p.keys, side, p.value_width, v_tile);
    __syncthreads();
    float scores[count][count];
    multiply_rows(q_tile, k_tile, p.width, scores);
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const int query = first + tile_row() + tile_side * i;
#pragma unroll
      for (int j = 0; j < count; ++j) {
        const bool visible = p.visible(sequence, query, key + tile_column() + tile_side * j);
        scores[i][j] = visible ? p.scale * scores[i][j] : -INFINITY;
      }
      const float correction = softmax.add(i, scores[i]);
#pragma unroll
      for (int j = 0; j < columns; ++j) sums[i][j] *= correction;
    }
    store_square(scores, exponentials);
    __syncthreads();
    add_product(exponentials, v_tile, p.value_width, sums);
  }
#pragma unroll
  for (int i = 0; i < count; ++i) {
    const float inverse = softmax.sum[i] > 0 ? 1 / softmax.sum[i] : 0.0f;
#pragma unroll
    for (int j = 0; j < columns; ++j) sums[i][j] *= inverse;
    const int query = first + tile_row() + tile_side * i;
    if (tile_column() != 0 || query >= end) continue;
    log_sum_exp[(std::int64_t{sequence} * p.heads + head) * p.queries + query] =
        softmax.largest[i] + logf(softmax.sum[i]);
  }
  store_rows(sums, 1.0f, out.at(sequence, 0, head), out.position_stride, first, end, p.value_width);
}

}  // namespace

void plain_attention_forward(const OperatorContext& context, const AttentionMask& mask, double scale, ConstView q,
                             ConstView k, ConstView v, View out, View log_sum_exp) {
  const AttentionProblem p(mask, scale, q, k, v);
  if (p.batch == 0 || p.heads == 0 || p.queries == 0) return;
  with_storage("attention_forward", q.dtype(), [&]<class T>(T) {
    with_attention_tile(p, [&]<class Tile>(Tile) {
      launch_attention(context, forward_kernel<T, Tile>, {.keys = 2, .values = 1, .squares = 1, .rows = 0}, Tile::side,
                       p.queries, p.heads, p,
                       Inputs<T>{head_rows<const T>(q), head_rows<const T>(k), head_rows<const T>(v)},
                       head_rows<T>(out), log_sum_exp.data<float>());
    });
  });
}

}  // namespace moesaic::cuda
