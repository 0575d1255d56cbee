#include "column_sums.cuh"
#include "launch.cuh"
#include "moesaic/kernels/router.hpp"
#include "moesaic/tensor/cuda_memory.hpp"
#include "router_partials.hpp"
#include "rows.cuh"

namespace moesaic::cuda {
namespace {

/// Tokens whose statistics one block gathers.
constexpr int chunk_tokens = 64;
constexpr float smallest = 1.17549435e-38f;  // FLT_MIN

struct Routing {
  const float* probabilities;
  const std::int32_t* indices;
  std::int64_t probabilities_stride, indices_stride;
  int experts, top_k;
};

/// shares [chunk_tokens] = what a token's scores are divided by: their sum, one warp a token; 1 for softmax.
__device__ void divide_scores(const Routing& routing, bool softmax, std::int64_t begin, std::int64_t end,
                              float* divisors) {
  for (std::int64_t token = begin + threadIdx.x / warp_lanes; token < end; token += block_warps) {
    float sum = 0;
    const float* row = routing.probabilities + token * routing.probabilities_stride;
    for (int e = lane_number(); !softmax && e < routing.experts; e += warp_lanes) sum += row[e];
    sum = softmax ? 1.0f : fmaxf(warp_sum(sum), smallest);
    if (lane_number() == 0) divisors[token - begin] = sum;
  }
}

/// partial_counts, partial_sums [chunks, groups, experts] of chunk blockIdx.x of group blockIdx.y.
__global__ void __launch_bounds__(block_threads)
    partial_kernel(std::int64_t group_tokens, bool softmax, Routing routing, int* partial_counts, float* partial_sums) {
  extern __shared__ int counts[];
  __shared__ float divisors[chunk_tokens];
  const std::int64_t first = blockIdx.y * group_tokens, begin = first + blockIdx.x * chunk_tokens;
  const std::int64_t end = min(first + group_tokens, begin + chunk_tokens);
  for (int e = static_cast<int>(threadIdx.x); e < routing.experts; e += block_threads) counts[e] = 0;
  divide_scores(routing, softmax, begin, end, divisors);
  __syncthreads();
  const int slots = static_cast<int>(end - begin) * routing.top_k;
  for (int slot = static_cast<int>(threadIdx.x); slot < slots; slot += block_threads) {
    const std::int64_t token = begin + slot / routing.top_k;
    atomicAdd(counts + routing.indices[token * routing.indices_stride + slot % routing.top_k], 1);
  }
  __syncthreads();
  const std::int64_t row = (std::int64_t{blockIdx.x} * gridDim.y + blockIdx.y) * routing.experts;
  for (int e = static_cast<int>(threadIdx.x); e < routing.experts; e += block_threads) {
    float sum = 0;
    for (std::int64_t token = begin; token < end; ++token) {
      sum += routing.probabilities[token * routing.probabilities_stride + e] / divisors[token - begin];
    }
    partial_counts[row + e] = counts[e];
    partial_sums[row + e] = sum;
  }
}

__global__ void __launch_bounds__(tile_lanes* deep_tile)
    sum_partials_kernel(int chunks, std::int64_t size, int experts, const int* partial_counts,
                        const float* partial_sums, std::int64_t* counts, std::int64_t counts_stride, float* sums,
                        std::int64_t sums_stride) {
  const std::int64_t i = std::int64_t{blockIdx.x} * tile_lanes + threadIdx.x;
  const float sum = sum_of_chunks<deep_tile>(chunks, size, i, partial_sums);
  const int count = sum_of_chunks<deep_tile>(chunks, size, i, partial_counts);
  if (threadIdx.y != 0 || i >= size) return;
  counts[i / experts * counts_stride + i % experts] = count;
  sums[i / experts * sums_stride + i % experts] = sum;
}

__global__ void __launch_bounds__(block_threads)
    balance_loss_kernel(int groups, int experts, double slots, double tokens, double gradient_scale,
                        Matrix<const std::int64_t> counts, Matrix<const float> sums, float* loss,
                        Matrix<float> gradient) {
  double total = 0;
  for (int i = static_cast<int>(threadIdx.x); i < groups * experts; i += block_threads) {
    const int group = i / experts, e = i % experts;
    const double slope = experts * (static_cast<double>(counts[group][e]) / slots) / tokens;
    total += slope * static_cast<double>(sums[group][e]);
    gradient[group][e] = static_cast<float>(gradient_scale * slope);
  }
  total = block_sum(total);
  if (threadIdx.x == 0) *loss = static_cast<float>(total);
}

__global__ void __launch_bounds__(block_threads)
    balanced_kernel(std::int64_t slots, int top_k, std::int64_t experts, const std::int32_t* positions,
                    Matrix<std::int32_t> indices, Matrix<float> weights) {
  const std::int64_t slot = thread_number(), token = slot / top_k;
  const int j = static_cast<int>(slot % top_k);
  if (slot >= slots) return;
  indices[token][j] = static_cast<std::int32_t>((std::int64_t{positions[token]} * top_k + j) % experts);
  weights[token][j] = 1.0f / static_cast<float>(top_k);
}

}  // namespace

void sum_router_partials(const OperatorContext& context, ConstView partial_counts, ConstView partial_sums, View counts,
                         View probability_sums) {
  const std::int64_t size = counts.size();
  if (size == 0) return;
  sum_partials_kernel<<<blocks_for(size, tile_lanes), dim3(tile_lanes, deep_tile), 0, cuda_stream(context.stream)>>>(
      static_cast<int>(partial_counts.extent(0)), size, static_cast<int>(counts.extent(1)),
      partial_counts.data<std::int32_t>(), partial_sums.data<float>(), counts.data<std::int64_t>(), counts.stride(0),
      probability_sums.data<float>(), probability_sums.stride(0));
  check_cuda(cudaGetLastError(), "the router partial sums kernel");
}

void router_statistics(const OperatorContext& context, RouterScores scores, ConstView probabilities, ConstView indices,
                       View counts, View probability_sums) {
  expect_f32("router_statistics", probabilities.dtype());
  const std::int64_t groups = counts.extent(0), experts = counts.extent(1), size = groups * experts;
  if (size == 0) return;
  const std::int64_t group_tokens = probabilities.extent(0) / groups;
  MOESAIC_EXPECT(group_tokens * groups == probabilities.extent(0) && probabilities.extent(1) == experts);
  const std::int64_t chunks = ceil_divide(group_tokens, chunk_tokens);
  const Tensor partial_counts = context.arena->tensor(DType::i32, {chunks, size}, Label::workspace);
  const Tensor partial_sums = context.arena->tensor(DType::f32, {chunks, size}, Label::workspace);
  const Routing routing{probabilities.data<float>(), indices.data<std::int32_t>(), probabilities.stride(0),
                        indices.stride(0),           static_cast<int>(experts),    static_cast<int>(indices.extent(1))};
  const cudaStream_t stream = cuda_stream(context.stream);
  expect_at_most("router_statistics", "experts", experts, 4096);
  const auto bytes = static_cast<std::size_t>(experts) * sizeof(int);
  auto* count_parts = partial_counts.view().data<std::int32_t>();
  auto* sum_parts = partial_sums.view().data<float>();
  if (chunks > 0) {
    const dim3 grid(static_cast<unsigned>(chunks), static_cast<unsigned>(groups));
    partial_kernel<<<grid, block_threads, bytes, stream>>>(group_tokens, scores == RouterScores::softmax, routing,
                                                           count_parts, sum_parts);
    check_cuda(cudaGetLastError(), "the router statistics kernel");
  }
  sum_router_partials(context, partial_counts, partial_sums, counts, probability_sums);
}

void balance_loss(const OperatorContext& context, ConstView counts, ConstView probability_sums,
                  std::int64_t tokens_per_group, std::int64_t top_k, double gradient_scale, View loss, View gradient) {
  expect_f32("balance_loss", probability_sums.dtype());
  const auto tokens = static_cast<double>(tokens_per_group > 1 ? tokens_per_group : 1);
  balance_loss_kernel<<<1, block_threads, 0, cuda_stream(context.stream)>>>(
      static_cast<int>(counts.extent(0)), static_cast<int>(counts.extent(1)), tokens * static_cast<double>(top_k),
      tokens, gradient_scale, matrix_of<const std::int64_t>(counts), matrix_of<const float>(probability_sums),
      loss.data<float>(), matrix_of<float>(gradient));
  check_cuda(cudaGetLastError(), "the balancing loss kernel");
}

void balanced_routing(const OperatorContext& context, ConstView positions, std::int64_t experts, View indices,
                      View weights) {
  expect_f32("balanced_routing", weights.dtype());
  const std::int64_t slots = indices.size();
  if (slots == 0) return;
  balanced_kernel<<<blocks_for(slots), block_threads, 0, cuda_stream(context.stream)>>>(
      slots, static_cast<int>(indices.extent(1)), experts, positions.data<std::int32_t>(),
      matrix_of<std::int32_t>(indices), matrix_of<float>(weights));
  check_cuda(cudaGetLastError(), "the balanced routing kernel");
}

}  // namespace moesaic::cuda
