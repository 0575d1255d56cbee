#include "moesaic/kernels/dispatch.hpp"

#include "launch.cuh"
#include "moesaic/tensor/cuda_memory.hpp"
#include "offsets.cuh"
#include "rows.cuh"

#include <climits>

namespace moesaic::cuda {
namespace {

/// One thread a token: finds the next larger rank until there is none.
__global__ void __launch_bounds__(block_threads)
    destinations_kernel(std::uint32_t tokens, int top_k, int columns, int experts_per_rank,
                        Matrix<const std::int32_t> indices, Matrix<std::int32_t> destinations) {
  const std::uint32_t token = thread_number();
  if (token >= tokens) return;
  const std::int32_t* experts = indices[token];
  int last = -1;
  for (int column = 0; column < columns; ++column) {
    int next = INT_MAX;
    for (int j = 0; j < top_k; ++j) {
      const int rank = experts[j] < 0 ? -1 : experts[j] / experts_per_rank;
      if (rank > last && rank < next) next = rank;
    }
    destinations[token][column] = next == INT_MAX ? -1 : next;
    last = next;
  }
}

/// One thread a slot and column.
__global__ void __launch_bounds__(block_threads)
    routing_kernel(std::uint32_t items, std::uint32_t top_k, Matrix<const std::int32_t> indices,
                   Matrix<const float> weights, const std::int32_t* slot_token, const std::int64_t* offsets,
                   std::uint32_t ranks, int experts_per_rank, Matrix<std::int32_t> slot_indices,
                   Matrix<float> slot_weights) {
  const std::uint32_t item = thread_number(), slot = item / top_k, j = item % top_k;
  if (item >= items) return;
  const std::uint32_t rank = group_of(offsets, ranks, slot);
  if (rank >= ranks) return;
  const std::int32_t token = slot_token[slot];
  const int expert = indices[token][j] - static_cast<int>(rank) * experts_per_rank;
  const bool here = 0 <= expert && expert < experts_per_rank;
  slot_indices[slot][j] = here ? expert : -1;
  slot_weights[slot][j] = here ? weights[token][j] : 0.0f;
}

/// One thread a token and column.
__global__ void __launch_bounds__(block_threads)
    weights_gradient_kernel(std::uint32_t items, std::uint32_t top_k, int columns, int experts_per_rank,
                            Matrix<const std::int32_t> indices, Matrix<const std::int32_t> destinations,
                            Matrix<const std::int32_t> token_slot, Matrix<const float> slot_weights_gradient,
                            Matrix<float> weights_gradient) {
  const std::uint32_t item = thread_number(), token = item / top_k, j = item % top_k;
  if (item >= items) return;
  const int expert = indices[token][j];
  int slot = -1;
  for (int column = 0; expert >= 0 && slot < 0 && column < columns; ++column) {
    if (destinations[token][column] == expert / experts_per_rank) slot = token_slot[token][column];
  }
  weights_gradient[token][j] = slot < 0 ? 0.0f : slot_weights_gradient[slot][j];
}

}  // namespace

void dispatch_destinations(const OperatorContext& context, ConstView indices, std::int64_t experts_per_rank,
                           View destinations) {
  const std::int64_t tokens = indices.extent(0);
  if (destinations.size() == 0) return;
  destinations_kernel<<<blocks_for(tokens), block_threads, 0, cuda_stream(context.stream)>>>(
      static_cast<std::uint32_t>(tokens), static_cast<int>(indices.extent(1)), static_cast<int>(destinations.extent(1)),
      static_cast<int>(experts_per_rank), matrix_of<const std::int32_t>(indices),
      matrix_of<std::int32_t>(destinations));
  check_cuda(cudaGetLastError(), "the dispatch destinations kernel");
}

void dispatch_routing(const OperatorContext& context, ConstView indices, ConstView weights, ConstView slot_token,
                      ConstView offsets, std::int64_t experts_per_rank, View slot_indices, View slot_weights) {
  expect_f32("dispatch_routing", weights.dtype());
  const std::int64_t items = slot_indices.size();
  if (items == 0) return;
  routing_kernel<<<blocks_for(items), block_threads, 0, cuda_stream(context.stream)>>>(
      static_cast<std::uint32_t>(items), static_cast<std::uint32_t>(slot_indices.extent(1)),
      matrix_of<const std::int32_t>(indices), matrix_of<const float>(weights), slot_token.data<std::int32_t>(),
      offsets.data<std::int64_t>(), static_cast<std::uint32_t>(offsets.extent(0) - 1),
      static_cast<int>(experts_per_rank), matrix_of<std::int32_t>(slot_indices), matrix_of<float>(slot_weights));
  check_cuda(cudaGetLastError(), "the dispatch routing kernel");
}

void dispatch_weights_gradient(const OperatorContext& context, ConstView indices, ConstView destinations,
                               ConstView token_slot, std::int64_t experts_per_rank, ConstView slot_weights_gradient,
                               View weights_gradient) {
  expect_f32("dispatch_weights_gradient", weights_gradient.dtype());
  const std::int64_t items = indices.size();
  if (items == 0) return;
  weights_gradient_kernel<<<blocks_for(items), block_threads, 0, cuda_stream(context.stream)>>>(
      static_cast<std::uint32_t>(items), static_cast<std::uint32_t>(indices.extent(1)),
      static_cast<int>(destinations.extent(1)), static_cast<int>(experts_per_rank),
      matrix_of<const std::int32_t>(indices), matrix_of<const std::int32_t>(destinations),
      matrix_of<const std::int32_t>(token_slot), matrix_of<const float>(slot_weights_gradient),
      matrix_of<float>(weights_gradient));
  check_cuda(cudaGetLastError(), "the dispatch weights gradient kernel");
}

}  // namespace moesaic::cuda
