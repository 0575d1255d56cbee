#include "moesaic/tensor/cuda_memory.hpp"

namespace moesaic {
namespace {

class DeviceMemory final : public MemorySource {
 public:
  explicit DeviceMemory(int device) : device_(device) { check_cuda(cudaSetDevice(device_), "cudaSetDevice"); }

  DeviceKind device() const override { return DeviceKind::cuda; }

  void* acquire(std::int64_t bytes) override {
    check_cuda(cudaSetDevice(device_), "cudaSetDevice");
    void* block = nullptr;
    const cudaError_t status = cudaMalloc(&block, static_cast<std::size_t>(bytes));
    if (status == cudaErrorMemoryAllocation) refuse_device_memory(device_, bytes);
    check_cuda(status, "cudaMalloc");
    return block;
  }

  void release(void* block, std::int64_t) noexcept override { cudaFree(block); }

 private:
  int device_;
};

void copy(Stream stream, ConstView from, View to, cudaMemcpyKind kind) {
  MOESAIC_EXPECT(from.contiguous() && to.contiguous());
  MOESAIC_EXPECT(from.size() == to.size() && from.dtype() == to.dtype());
  if (from.size() == 0) return;
  check_cuda(cudaMemcpyAsync(to.raw(), from.raw(), static_cast<std::size_t>(from.bytes()), kind, cuda_stream(stream)),
             "cudaMemcpyAsync");
}

}  // namespace

void check_cuda(cudaError_t status, std::string_view what) {
  if (status == cudaSuccess) return;
  throw RunError(
      fmt::format("{} failed: {} ({}) (the device cannot go on); look for the first such error in the "
                  "output of all ranks, and at nvidia-smi on this node",
                  what, cudaGetErrorString(status), cudaGetErrorName(status)));
}

void refuse_device_memory(int device, std::int64_t bytes) {
  cudaGetLastError();
  std::size_t available = 0, total = 0;
  cudaMemGetInfo(&available, &total);
  throw RunError(
      fmt::format("device {} has {} of {} bytes free, {} were asked for (nothing can be trained without "
                  "them); set run.device_memory lower, or end what else uses the device",
                  device, available, total, bytes));
}

int num_cuda_devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();
  return 0;
}

std::unique_ptr<MemorySource> device_memory(int device) { return std::make_unique<DeviceMemory>(device); }

void copy_to_device(Stream stream, ConstView host, View device) { copy(stream, host, device, cudaMemcpyHostToDevice); }

void copy_to_host(Stream stream, ConstView device, View host) { copy(stream, device, host, cudaMemcpyDeviceToHost); }

void copy_on_device(Stream stream, ConstView from, View to) { copy(stream, from, to, cudaMemcpyDeviceToDevice); }

void synchronise(Stream stream) { check_cuda(cudaStreamSynchronize(cuda_stream(stream)), "cudaStreamSynchronize"); }

}  // namespace moesaic
