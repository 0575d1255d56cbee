#include "moesaic/kernels/router.hpp"

#include "launch.cuh"
#include "moesaic/tensor/cuda_memory.hpp"
#include "rows.cuh"

#include <climits>

namespace moesaic::cuda {
namespace {

/// One warp a token; each has rows of shared memory as wide as there are experts.
constexpr int router_warps = 4;
constexpr int router_threads = router_warps * warp_lanes;
constexpr std::int64_t most_experts = 4096;
constexpr float smallest = 1.17549435e-38f;  // FLT_MIN

struct Options {
  int experts, top_k, groups, top_groups;
  bool renormalise, softmax;
  float scale;
};

Options options_of(const RouterOptions& options, std::int64_t experts) {
  return {static_cast<int>(experts),
          static_cast<int>(options.top_k),
          static_cast<int>(options.groups),
          static_cast<int>(options.top_groups),
          options.renormalise,
          options.scores == RouterScores::softmax,
          static_cast<float>(options.scale)};
}

__device__ std::int64_t token_of_warp() { return std::int64_t{blockIdx.x} * router_warps + threadIdx.x / warp_lanes; }

/// This warp's piece of the shared memory.
__device__ float* shared_rows(int experts, int rows) {
  extern __shared__ float shared[];
  return shared + static_cast<int>(threadIdx.x) / warp_lanes * rows * experts;
}

/// A score and where it is; the larger is better, and among equals the lower index.
struct Candidate {
  float score = -INFINITY;
  int index = INT_MAX;

  __device__ bool better_than(const Candidate& other) const {
    return score > other.score || (score == other.score && index < other.index);
  }
};

/// The best of all lanes' candidates, in every lane.
__device__ Candidate best_of_warp(Candidate best) {
#pragma unroll
  for (int distance = warp_lanes / 2; distance > 0; distance /= 2) {
    const Candidate other{__shfl_xor_sync(~0u, best.score, distance), __shfl_xor_sync(~0u, best.index, distance)};
    if (other.better_than(best)) best = other;
  }
  return best;
}

/// The best of scores [begin, end), but not those set to NaN.
__device__ Candidate best_score(const float* scores, int begin, int end) {
  Candidate best;
  for (int e = begin + lane_number(); e < end; e += warp_lanes) {
    const Candidate other{scores[e], e};
    if (!isnan(other.score) && other.better_than(best)) best = other;
  }
  return best_of_warp(best);
}

/// Takes a score out of the choice.
__device__ void strike(float* scores, int index) {
  __syncwarp();
  if (lane_number() == 0) scores[index] = NAN;
  __syncwarp();
}

/// Strikes the experts of all groups but the top_groups with the largest sum of their two best scores.
__device__ void strike_groups(const Options& options, float* scores) {
  const int size = options.experts / options.groups;
  Candidate mine;  // of the group with this lane's number
  for (int group = 0; group < options.groups; ++group) {
    const int begin = group * size;
    const Candidate first = best_score(scores, begin, begin + size);
    strike(scores, first.index);
    const Candidate second = best_score(scores, begin, begin + size);
    __syncwarp();
    if (lane_number() == 0) scores[first.index] = first.score;
    __syncwarp();
    if (lane_number() == group) mine = {size > 1 ? first.score + second.score : first.score, group};
  }
  unsigned chosen = 0;
  for (int i = 0; i < options.top_groups; ++i) {
    const int group = best_of_warp((chosen >> lane_number() & 1u) != 0 ? Candidate() : mine).index;
    chosen |= 1u << group;
  }
  for (int e = lane_number(); e < options.experts; e += warp_lanes) {
    if ((chosen >> (e / size) & 1u) == 0) scores[e] = NAN;
  }
  __syncwarp();
}

/// In place: logits [experts] (shared) become softmax or sigmoid.
__device__ void score(const Options& options, float* logits) {
  float largest = -INFINITY, sum = 0;
  for (int e = lane_number(); e < options.experts; e += warp_lanes) largest = fmaxf(largest, logits[e]);
  largest = warp_max(largest);
  for (int e = lane_number(); e < options.experts; e += warp_lanes) {
    logits[e] = options.softmax ? expf(logits[e] - largest) : 1 / (1 + expf(-logits[e]));
    sum += logits[e];
  }
  if (!options.softmax) return;
  sum = warp_sum(sum);
  for (int e = lane_number(); e < options.experts; e += warp_lanes) logits[e] /= sum;
}

/// Sum over the lanes below top_k, in their order, and at least the smallest number: a bias can choose experts whose
/// probability underflowed.
__device__ float chosen_sum(int top_k, float mine) {
  float sum = 0;
  for (int j = 0; j < top_k; ++j) sum += __shfl_sync(~0u, mine, j);
  return fmaxf(sum, smallest);
}

/// Lane j gets the index of the best expert number j.
__device__ int choose(const Options& options, float* scores) {
  int mine = 0;
  for (int j = 0; j < options.top_k; ++j) {
    const int index = best_score(scores, 0, options.experts).index;
    if (lane_number() == j) mine = index;
    strike(scores, index);
  }
  return mine;
}

__global__ void __launch_bounds__(router_threads)
    forward_kernel(std::int64_t tokens, Options options, Matrix<const float> logits, const float* bias,
                   Matrix<float> probabilities, Matrix<std::int32_t> indices, Matrix<float> weights) {
  const std::int64_t token = token_of_warp();
  if (token >= tokens) return;
  float* row = shared_rows(options.experts, 2);
  float* selection = row + options.experts;
  for (int e = lane_number(); e < options.experts; e += warp_lanes) row[e] = logits[token][e];
  score(options, row);
  for (int e = lane_number(); e < options.experts; e += warp_lanes) {
    probabilities[token][e] = row[e];
    const float value = row[e] + (bias == nullptr ? 0.0f : bias[e]);
    // NaN ranks last, so that indices stay within range whatever the logits were.
    selection[e] = isnan(value) ? -INFINITY : value;
  }
  __syncwarp();
  if (options.top_groups < options.groups) strike_groups(options, selection);
  const int index = choose(options, selection);
  const bool chosen = lane_number() < options.top_k;
  const float mine = chosen ? row[index] : 0.0f;
  const float divisor = options.renormalise ? chosen_sum(options.top_k, mine) : 1.0f;
  if (!chosen) return;
  indices[token][lane_number()] = index;
  weights[token][lane_number()] = options.scale * (mine / divisor);
}

/// Balancing: from the gradient of the shares s_e / S, S = sum s, to that of the scores: (g_e - sum_f g_f s_f / S) / S.
__device__ void share_backward(int experts, const float* scores, float* gradient) {
  float sum = 0, mean = 0;
  for (int e = lane_number(); e < experts; e += warp_lanes) {
    sum += scores[e];
    mean += gradient[e] * scores[e];
  }
  sum = fmaxf(warp_sum(sum), smallest);
  mean = warp_sum(mean) / sum;
  for (int e = lane_number(); e < experts; e += warp_lanes) gradient[e] = (gradient[e] - mean) / sum;
}

/// Adds d loss / d score of the chosen experts. With w_j = c p_j / S: dp_j = c (g_j - sum_l g_l p_l / S) / S.
__device__ void add_weights_gradient(const Options& options, const float* scores, const std::int32_t* indices,
                                     const float* weights_gradient, float* gradient) {
  const bool chosen = lane_number() < options.top_k;
  const int index = chosen ? indices[lane_number()] : 0;
  const float mine = chosen ? weights_gradient[lane_number()] : 0.0f, p = chosen ? scores[index] : 0.0f;
  float divisor = 1, mean = 0;
  if (options.renormalise) {
    divisor = chosen_sum(options.top_k, p);
    mean = warp_sum(mine * (p / divisor));
  }
  if (chosen) gradient[index] += options.scale * ((mine - mean) / divisor);
}

/// balance.data: null without.
__global__ void __launch_bounds__(router_threads)
    backward_kernel(std::int64_t tokens, std::int64_t group_tokens, Options options, Matrix<const float> probabilities,
                    Matrix<const std::int32_t> indices, Matrix<const float> weights_gradient,
                    Matrix<const float> balance, Matrix<float> logits_gradient) {
  const std::int64_t token = token_of_warp();
  if (token >= tokens) return;
  float* scores = shared_rows(options.experts, 2);
  float* gradient = scores + options.experts;
  for (int e = lane_number(); e < options.experts; e += warp_lanes) {
    scores[e] = probabilities[token][e];
    gradient[e] = balance.data == nullptr ? 0.0f : balance[token / group_tokens][e];
  }
  if (balance.data != nullptr && !options.softmax) share_backward(options.experts, scores, gradient);
  __syncwarp();
  add_weights_gradient(options, scores, indices[token], weights_gradient[token], gradient);
  __syncwarp();
  float mean = 0;
  for (int e = lane_number(); e < options.experts; e += warp_lanes) mean += scores[e] * gradient[e];
  mean = options.softmax ? warp_sum(mean) : 0.0f;
  for (int e = lane_number(); e < options.experts; e += warp_lanes) {
    const float slope = options.softmax ? 1.0f : 1 - scores[e];
    logits_gradient[token][e] = slope * scores[e] * (gradient[e] - mean);
  }
}

/// Launches a kernel of one warp a token with two shared rows each.
template <class Kernel, class... Arguments>
void launch_rows(const OperatorContext& context, Kernel kernel, const Options& options, std::int64_t tokens,
                 Arguments... arguments) {
  const auto bytes = static_cast<int>(2 * router_warps * sizeof(float)) * options.experts;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "cudaFuncSetAttribute");
  kernel<<<blocks_for(tokens, router_warps), router_threads, bytes, cuda_stream(context.stream)>>>(tokens,
                                                                                                   arguments...);
  check_cuda(cudaGetLastError(), "a router kernel");
}

}  // namespace

void router_forward(const OperatorContext& context, const RouterOptions& options, ConstView logits,
                    ConstView selection_bias, View probabilities, View indices, View weights) {
  expect_f32("router_forward", logits.dtype());
  MOESAIC_EXPECT(options.groups > 0 && logits.extent(1) % options.groups == 0);
  MOESAIC_EXPECT(0 < options.top_groups && options.top_groups <= options.groups);
  MOESAIC_EXPECT(options.top_k <= options.top_groups * (logits.extent(1) / options.groups));
  expect_at_most("router_forward", "top_k", options.top_k, warp_lanes);
  expect_at_most("router_forward", "groups", options.groups, warp_lanes);
  expect_at_most("router_forward", "experts", logits.extent(1), most_experts);
  if (logits.size() == 0) return;
  const Options rounded = options_of(options, logits.extent(1));
  launch_rows(context, forward_kernel, rounded, logits.extent(0), rounded, matrix_of<const float>(logits),
              selection_bias.absent() ? nullptr : selection_bias.data<float>(), matrix_of<float>(probabilities),
              matrix_of<std::int32_t>(indices), matrix_of<float>(weights));
}

void router_backward(const OperatorContext& context, const RouterOptions& options, ConstView probabilities,
                     ConstView indices, ConstView weights_gradient, ConstView balance_gradient, View logits_gradient) {
  expect_f32("router_backward", probabilities.dtype());
  expect_at_most("router_backward", "top_k", options.top_k, warp_lanes);
  expect_at_most("router_backward", "experts", probabilities.extent(1), most_experts);
  if (probabilities.size() == 0) return;
  const Options rounded = options_of(options, probabilities.extent(1));
  const bool balance = !balance_gradient.empty();
  const std::int64_t group_tokens = balance ? probabilities.extent(0) / balance_gradient.extent(0) : 1;
  launch_rows(context, backward_kernel, rounded, probabilities.extent(0), group_tokens, rounded,
              matrix_of<const float>(probabilities), matrix_of<const std::int32_t>(indices),
              matrix_of<const float>(weights_gradient),
              balance ? matrix_of<const float>(balance_gradient) : Matrix<const float>{},
              matrix_of<float>(logits_gradient));
}

}  // namespace moesaic::cuda
