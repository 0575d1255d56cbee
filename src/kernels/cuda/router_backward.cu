#include "moesaic/kernels/router.hpp"

#include "moesaic/tensor/cuda_memory.hpp"
#include "router_options.cuh"

namespace moesaic::cuda {
namespace {

/// One warp a token; each has two rows of shared memory as wide as there are experts.
constexpr int router_warps = 4;
constexpr int router_threads = router_warps * warp_lanes;

__device__ std::int64_t token_of_warp() { return std::int64_t{blockIdx.x} * router_warps + threadIdx.x / warp_lanes; }

/// This warp's piece of the shared memory.
__device__ float* shared_rows(int experts) {
  extern __shared__ float shared[];
  return shared + static_cast<int>(threadIdx.x) / warp_lanes * 2 * experts;
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
__device__ void add_weights_gradient(const RoundedOptions& options, const float* scores, const std::int32_t* indices,
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
    backward_kernel(std::int64_t tokens, std::int64_t group_tokens, RoundedOptions options,
                    Matrix<const float> probabilities, Matrix<const std::int32_t> indices,
                    Matrix<const float> weights_gradient, Matrix<const float> balance, Matrix<float> logits_gradient) {
  const std::int64_t token = token_of_warp();
  if (token >= tokens) return;
  float* scores = shared_rows(options.experts);
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
void launch_rows(const OperatorContext& context, Kernel kernel, const RoundedOptions& options, std::int64_t tokens,
                 Arguments... arguments) {
  const auto bytes = static_cast<int>(2 * router_warps * sizeof(float)) * options.experts;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "cudaFuncSetAttribute");
  kernel<<<blocks_for(tokens, router_warps), router_threads, bytes, cuda_stream(context.stream)>>>(tokens,
                                                                                                   arguments...);
  check_cuda(cudaGetLastError(), "a router kernel");
}

}  // namespace

void router_backward(const OperatorContext& context, const RouterOptions& options, ConstView probabilities,
                     ConstView indices, ConstView weights_gradient, ConstView balance_gradient, View logits_gradient) {
  expect_f32("router_backward", probabilities.dtype());
  expect_router_fits("router_backward", options, probabilities.extent(1));
  if (probabilities.size() == 0) return;
  const RoundedOptions rounded = options_of(options, probabilities.extent(1));
  const bool balance = !balance_gradient.empty();
  const std::int64_t group_tokens = balance ? probabilities.extent(0) / balance_gradient.extent(0) : 1;
  launch_rows(context, backward_kernel, rounded, probabilities.extent(0), group_tokens, rounded,
              matrix_of<const float>(probabilities), matrix_of<const std::int32_t>(indices),
              matrix_of<const float>(weights_gradient),
              balance ? matrix_of<const float>(balance_gradient) : Matrix<const float>{},
              matrix_of<float>(logits_gradient));
}

}  // namespace moesaic::cuda
