#include "moesaic/tensor/cuda_driver.hpp"

#include "moesaic/tensor/cuda_memory.hpp"

namespace moesaic {

void* driver_entry(const char* name, const char* purpose) {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult result{};
#if CUDART_VERSION >= 12050
  check_cuda(cudaGetDriverEntryPointByVersion(name, &entry, 12000, cudaEnableDefault, &result),
             "cudaGetDriverEntryPointByVersion");
#else
  check_cuda(cudaGetDriverEntryPoint(name, &entry, cudaEnableDefault, &result), "cudaGetDriverEntryPoint");
#endif
  if (result != cudaDriverEntryPointSuccess)
    throw RunError(fmt::format("the CUDA driver has no {} ({} needs it); update the driver to one of CUDA 12 or later",
                               name, purpose));
  return entry;
}

}  // namespace moesaic
