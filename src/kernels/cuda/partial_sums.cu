#include "partial_sums.hpp"

#include "column_sums.cuh"
#include "launch.cuh"
#include "moesaic/tensor/cuda_memory.hpp"

namespace moesaic::cuda {
namespace {

__global__ void __launch_bounds__(tile_lanes* deep_tile)
    add_partial_sums_kernel(int chunks, std::int64_t width, const float* partials, float* sums) {
  const std::int64_t column = std::int64_t{blockIdx.x} * tile_lanes + threadIdx.x;
  const float sum = sum_of_chunks<deep_tile>(chunks, width, column, partials);
  if (threadIdx.y == 0 && column < width) sums[column] += sum;
}

}  // namespace

void add_partial_sums(const OperatorContext& context, ConstView partials, View sums) {
  const std::int64_t chunks = partials.extent(0), width = partials.extent(1);
  if (partials.size() == 0) return;
  add_partial_sums_kernel<<<blocks_for(width, tile_lanes), dim3(tile_lanes, deep_tile), 0,
                            cuda_stream(context.stream)>>>(static_cast<int>(chunks), width, partials.data<float>(),
                                                           sums.data<float>());
  check_cuda(cudaGetLastError(), "the partial sums kernel");
}

}  // namespace moesaic::cuda
