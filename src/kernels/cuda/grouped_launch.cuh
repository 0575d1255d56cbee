#pragma once
/// How grouped products on Hopper are started: one block a multiprocessor, in clusters of two.

#include "grouped_pipeline.cuh"
#include "moesaic/kernels/context.hpp"
#include "moesaic/tensor/cuda_memory.hpp"

namespace moesaic::cuda::hopper {

inline Group group_of(ConstView offsets, std::int64_t outer, std::int64_t width, std::int64_t summed) {
  return {offsets.data<std::int64_t>(), static_cast<int>(offsets.size() - 1), static_cast<int>(outer),
          static_cast<int>(width), static_cast<int>(summed)};
}

inline Group group_of_gradients(ConstView offsets, ConstView gradient) {
  return group_of(offsets, gradient.extent(1), gradient.extent(2), -1);
}

inline unsigned count_blocks() {
  int device = 0, multiprocessors = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  check_cuda(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
             "cudaDeviceGetAttribute");
  return static_cast<unsigned>(multiprocessors / 2 * 2);
}

/// `fixed_bytes`: shared memory beside the table of tiles.
template <class... Parameters, class... Arguments>
void launch_grouped(void (*kernel)(Parameters...), std::size_t fixed_bytes, std::int64_t experts,
                    const OperatorContext& context, const Arguments&... arguments) {
  const std::size_t bytes = fixed_bytes + Tiles::bytes(experts);
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
             "cudaFuncSetAttribute");
  kernel<<<count_blocks(), block_threads, bytes, cuda_stream(context.stream)>>>(arguments...);
  check_cuda(cudaGetLastError(), "the grouped product's kernel for Hopper");
}

}  // namespace moesaic::cuda::hopper
