#include "moesaic/kernels/router.hpp"

#include "moesaic/tensor/cuda_memory.hpp"
#include "router_groups.cuh"
#include "router_partials.hpp"

namespace moesaic::cuda {
namespace {

/// Tokens of one block, whose statistics it gathers: four a warp.
constexpr int chunk_tokens = 32;

struct Arguments {
  std::int64_t group_tokens;
  RoundedOptions options;
  Matrix<const float> logits;
  const float* bias;  ///< of the choice; null without
  Matrix<float> probabilities;
  Matrix<std::int32_t> indices;
  Matrix<float> weights;
  int*
      partial_counts;  ///< [chunks, groups of tokens, experts] of chunk blockIdx.x of group blockIdx.y; null: not wanted
  float* partial_sums;
};

/// A number for each score that orders as the scores do, NaN as -inf; 0, below all, is left for those struck out.
__device__ unsigned order_key(float score) {
  if (isnan(score)) score = -INFINITY;
  const unsigned bits = __float_as_uint(score + 0.0f);  // -0 becomes 0
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

/// The scores of one token's experts: lane l has those of experts l, l + 32, ...; where there is no expert, 0.
template <int per_lane> struct Scores {
  float values[per_lane];

  static __device__ int expert(int i) { return i * warp_lanes + lane_number(); }

  /// Softmax or sigmoid of the logits.
  __device__ void read(const RoundedOptions& options, const float* logits) {
    float largest = -INFINITY, sum = 0;
#pragma unroll
    for (int i = 0; i < per_lane; ++i) {
      values[i] = expert(i) < options.experts ? logits[expert(i)] : -INFINITY;
      largest = fmaxf(largest, values[i]);
    }
    largest = warp_max(largest);
#pragma unroll
    for (int i = 0; i < per_lane; ++i) {
      values[i] = options.softmax ? expf(values[i] - largest) : 1 / (1 + expf(-values[i]));
      if (expert(i) >= options.experts) values[i] = 0;
      sum += values[i];
    }
    if (!options.softmax) return;
    const float factor = 1 / warp_sum(sum);
#pragma unroll
    for (int i = 0; i < per_lane; ++i) values[i] *= factor;
  }

  /// The score of one expert, the same in all lanes.
  __device__ float of(int index) const {
    float mine = 0;
#pragma unroll
    for (int i = 0; i < per_lane; ++i) {
      if (i == index / warp_lanes) mine = values[i];
    }
    return __shfl_sync(~0u, mine, index % warp_lanes);
  }
};

/// What the choice goes by: keys of score + bias, 0 outside of the best groups. row: shared [experts].
template <int per_lane>
__device__ void read_keys(const Arguments& all, const Scores<per_lane>& scores, float* row,
                          unsigned (&keys)[per_lane]) {
  const int experts = all.options.experts;
#pragma unroll
  for (int i = 0; i < per_lane; ++i) {
    const int e = scores.expert(i);
    const float added = all.bias == nullptr || e >= experts ? 0.0f : all.bias[e];
    keys[i] = e < experts ? order_key(scores.values[i] + added) : 0;
    if (all.options.top_groups == all.options.groups || e >= experts) continue;
    const float value = scores.values[i] + added;
    row[e] = isnan(value) ? -INFINITY : value;
  }
  if (all.options.top_groups == all.options.groups) return;
  __syncwarp();
  strike_groups(all.options, row);
#pragma unroll
  for (int i = 0; i < per_lane; ++i) {
    if (scores.expert(i) < experts && isnan(row[scores.expert(i)])) keys[i] = 0;
  }
  __syncwarp();
}

/// The expert with the largest key, the lower one among equals, which is then struck out.
template <int per_lane> __device__ int take_best(unsigned (&keys)[per_lane]) {
  unsigned best = 0;
  int index = INT_MAX;
#pragma unroll
  for (int i = 0; i < per_lane; ++i) {
    if (keys[i] > best) best = keys[i], index = i * warp_lanes + lane_number();
  }
  const unsigned largest = __reduce_max_sync(~0u, best);
  index = __reduce_min_sync(~0u, best == largest ? index : INT_MAX);
#pragma unroll
  for (int i = 0; i < per_lane; ++i) {
    if (i * warp_lanes + lane_number() == index) keys[i] = 0;
  }
  return index;
}

/// Lane j below top_k gets the index of expert number j, and its weight.
template <int per_lane>
__device__ void choose(const Arguments& all, const Scores<per_lane>& scores, float* row, int& index, float& weight) {
  unsigned keys[per_lane];
  read_keys(all, scores, row, keys);
  float mine = 0;
  for (int j = 0; j < all.options.top_k; ++j) {
    const int best = take_best(keys);
    const float score = scores.of(best);
    if (lane_number() == j) index = best, mine = score;
  }
  const float divisor = all.options.renormalise ? chosen_sum(all.options.top_k, mine) : 1.0f;
  weight = all.options.scale * (mine / divisor);
}

/// sums += the token's probabilities: softmax, or the shares of its scores.
template <int per_lane>
__device__ void add_shares(bool softmax, const Scores<per_lane>& scores, float (&sums)[per_lane]) {
  float factor = 1;
  if (!softmax) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < per_lane; ++i) sum += scores.values[i];
    factor = 1 / fmaxf(warp_sum(sum), smallest);
  }
#pragma unroll
  for (int i = 0; i < per_lane; ++i) sums[i] += scores.values[i] * factor;
}

/// The block's partial sums, warps in order. rows: shared [block_warps, experts].
template <int per_lane>
__device__ void write_statistics(const Arguments& all, const float (&sums)[per_lane], float* rows, const int* counts) {
  const int experts = all.options.experts;
  float* own = rows + static_cast<int>(threadIdx.x) / warp_lanes * experts;
#pragma unroll
  for (int i = 0; i < per_lane; ++i) {
    if (Scores<per_lane>::expert(i) < experts) own[Scores<per_lane>::expert(i)] = sums[i];
  }
  __syncthreads();
  const std::int64_t first = (std::int64_t{blockIdx.x} * gridDim.y + blockIdx.y) * experts;
  for (int e = static_cast<int>(threadIdx.x); e < experts; e += block_threads) {
    float sum = 0;
    for (int warp = 0; warp < block_warps; ++warp) sum += rows[warp * experts + e];
    all.partial_sums[first + e] = sum;
    all.partial_counts[first + e] = counts[e];
  }
}

/// One warp a token at a time. Shared: a row of floats a warp, and the counts.
template <int per_lane> __global__ void __launch_bounds__(block_threads) forward_kernel(Arguments all) {
  extern __shared__ float rows[];
  const int experts = all.options.experts, warp = static_cast<int>(threadIdx.x) / warp_lanes;
  int* counts = reinterpret_cast<int*>(rows + block_warps * experts);
  for (int e = static_cast<int>(threadIdx.x); e < experts; e += block_threads) counts[e] = 0;
  __syncthreads();
  const std::int64_t first = blockIdx.y * all.group_tokens, begin = first + std::int64_t{blockIdx.x} * chunk_tokens;
  const std::int64_t end = min(first + all.group_tokens, begin + chunk_tokens);
  float sums[per_lane] = {};
  for (std::int64_t token = begin + warp; token < end; token += block_warps) {
    Scores<per_lane> scores;
    scores.read(all.options, all.logits[token]);
#pragma unroll
    for (int i = 0; i < per_lane; ++i) {
      if (scores.expert(i) < experts) all.probabilities[token][scores.expert(i)] = scores.values[i];
    }
    int index = 0;
    float weight = 0;
    choose(all, scores, rows + warp * experts, index, weight);
    if (lane_number() < all.options.top_k) {
      all.indices[token][lane_number()] = index;
      all.weights[token][lane_number()] = weight;
      atomicAdd(counts + index, 1);
    }
    add_shares(all.options.softmax, scores, sums);
  }
  if (all.partial_sums != nullptr) write_statistics(all, sums, rows, counts);
}

/// body(experts a lane).
template <class Body> void with_experts(std::int64_t experts, const Body& body) {
  if (experts <= 32) return body(Constant<1>{});
  if (experts <= 64) return body(Constant<2>{});
  if (experts <= 128) return body(Constant<4>{});
  if (experts <= 256) return body(Constant<8>{});
  if (experts <= 512) return body(Constant<16>{});
  body(Constant<most_experts / warp_lanes>{});
}

void launch(const OperatorContext& context, std::int64_t chunks, std::int64_t groups, const Arguments& all) {
  if (chunks == 0 || groups == 0) return;
  const auto bytes = static_cast<int>((block_warps + 1) * sizeof(float)) * all.options.experts;
  const dim3 grid(static_cast<unsigned>(chunks), static_cast<unsigned>(groups));
  with_experts(all.options.experts, [&]<int per_lane>(Constant<per_lane>) {
    const auto kernel = forward_kernel<per_lane>;
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
               "cudaFuncSetAttribute");
    kernel<<<grid, block_threads, bytes, cuda_stream(context.stream)>>>(all);
  });
  check_cuda(cudaGetLastError(), "the router kernel");
}

}  // namespace

void router_forward(const OperatorContext& context, const RouterOptions& options, ConstView logits,
                    ConstView selection_bias, View probabilities, View indices, View weights, View counts,
                    View probability_sums) {
  const std::int64_t tokens = logits.extent(0), experts = logits.extent(1);
  expect_f32("router_forward", logits.dtype());
  MOESAIC_EXPECT(options.groups > 0 && experts % options.groups == 0);
  MOESAIC_EXPECT(0 < options.top_groups && options.top_groups <= options.groups);
  MOESAIC_EXPECT(options.top_k <= options.top_groups * (experts / options.groups));
  expect_router_fits("router_forward", options, experts);
  const std::int64_t groups = counts.absent() ? 1 : counts.extent(0), group_tokens = groups > 0 ? tokens / groups : 0;
  MOESAIC_EXPECT(group_tokens * groups == tokens);
  const std::int64_t chunks = ceil_divide(group_tokens, chunk_tokens), wanted = counts.absent() ? 0 : chunks;
  const Tensor partial_counts = context.arena->tensor(DType::i32, {wanted, groups * experts}, Label::workspace);
  const Tensor partial_sums = context.arena->tensor(DType::f32, {wanted, groups * experts}, Label::workspace);
  launch(context, chunks, groups,
         {group_tokens, options_of(options, experts), matrix_of<const float>(logits),
          selection_bias.absent() ? nullptr : selection_bias.data<float>(), matrix_of<float>(probabilities),
          matrix_of<std::int32_t>(indices), matrix_of<float>(weights),
          wanted > 0 ? partial_counts.view().data<std::int32_t>() : nullptr,
          wanted > 0 ? partial_sums.view().data<float>() : nullptr});
  if (!counts.absent()) sum_router_partials(context, partial_counts, partial_sums, counts, probability_sums);
}

}  // namespace moesaic::cuda
