#include "moesaic/tensor/device.hpp"

#ifdef MOESAIC_CUDA
#include "moesaic/tensor/cuda_memory.hpp"
#endif

namespace moesaic {

Device::~Device() = default;

#ifdef MOESAIC_CUDA

int num_devices() { return num_cuda_devices(); }

Device Device::cuda(int index) {
  check_cuda(cudaSetDevice(index), "cudaSetDevice");
  Device device;
  device.kind_ = DeviceKind::cuda;
  device.index_ = index;
  return device;
}

std::unique_ptr<MemorySource> Device::memory() const {
  return kind_ == DeviceKind::cuda ? mapped_device_memory(index_) : host_memory();
}

std::int64_t Device::free_bytes() const {
  if (kind_ == DeviceKind::cpu) return 0;
  std::size_t available = 0, total = 0;
  check_cuda(cudaMemGetInfo(&available, &total), "cudaMemGetInfo");
  return static_cast<std::int64_t>(available);
}

Stream Device::make_stream() {
  if (kind_ == DeviceKind::cpu) return host_stream;
  cudaStream_t handle = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  streams_.emplace_back(handle, [](void* stream) { cudaStreamDestroy(static_cast<cudaStream_t>(stream)); });
  return {DeviceKind::cuda, handle};
}

#else

int num_devices() { return 0; }
Device Device::cuda(int) { throw RunError("this program was built without CUDA; build the preset hopper"); }
std::unique_ptr<MemorySource> Device::memory() const { return host_memory(); }
std::int64_t Device::free_bytes() const { return 0; }
Stream Device::make_stream() { return host_stream; }

#endif

}  // namespace moesaic
