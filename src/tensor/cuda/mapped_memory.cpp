#include "moesaic/tensor/cuda_driver.hpp"
#include "moesaic/tensor/cuda_memory.hpp"

#include <algorithm>
#include <map>
#include <vector>

namespace moesaic {
namespace {

constexpr std::int64_t granule = std::int64_t{64} << 20;  // a multiple of what any device maps at once (2 MiB)

std::int64_t in_granules(std::int64_t bytes) { return (bytes + granule - 1) / granule * granule; }

/// The driver's functions for virtual memory.
struct Driver {
  template <class Function> static Function find(const char* name) {
    return driver_function<Function>(name, "memory that grows in place");
  }
  decltype(&cuMemAddressReserve) reserve = find<decltype(reserve)>("cuMemAddressReserve");
  decltype(&cuMemAddressFree) free_addresses = find<decltype(free_addresses)>("cuMemAddressFree");
  decltype(&cuMemCreate) create = find<decltype(create)>("cuMemCreate");
  decltype(&cuMemRelease) release = find<decltype(release)>("cuMemRelease");
  decltype(&cuMemMap) map = find<decltype(map)>("cuMemMap");
  decltype(&cuMemUnmap) unmap = find<decltype(unmap)>("cuMemUnmap");
  decltype(&cuMemSetAccess) set_access = find<decltype(set_access)>("cuMemSetAccess");
};

void check(CUresult status, const char* what) {
  if (status != CUDA_SUCCESS)
    throw RunError(
        fmt::format("{} failed with CUDA driver error {} (the device cannot go on); look at nvidia-smi on "
                    "this node",
                    what, static_cast<int>(status)));
}

class MappedMemory final : public MemorySource {
 public:
  explicit MappedMemory(int device) : device_(device) {
    check_cuda(cudaSetDevice(device), "cudaSetDevice");
    check_cuda(cudaFree(nullptr), "cudaFree");  // makes the context that the driver's functions need
  }

  DeviceKind device() const override { return DeviceKind::cuda; }

  void* acquire(std::int64_t bytes) override {
    CUdeviceptr addresses = 0;
    check(driver_.reserve(&addresses, static_cast<std::size_t>(in_granules(bytes)), 0, 0, 0), "cuMemAddressReserve");
    return reinterpret_cast<void*>(addresses);
  }

  void commit(void* block, std::int64_t bytes) override {
    std::int64_t& mapped = mapped_[block];
    const std::int64_t more = in_granules(bytes) - mapped;
    if (more <= 0) return;
    const CUmemAllocationProp properties = on_device();
    CUmemGenericAllocationHandle memory{};
    const CUresult status = driver_.create(&memory, static_cast<std::size_t>(more), &properties, 0);
    if (status == CUDA_ERROR_OUT_OF_MEMORY) refuse_device_memory(device_, more);
    check(status, "cuMemCreate");
    const CUdeviceptr at = reinterpret_cast<CUdeviceptr>(block) + static_cast<CUdeviceptr>(mapped);
    check(driver_.map(at, static_cast<std::size_t>(more), 0, memory, 0), "cuMemMap");
    check(driver_.release(memory), "cuMemRelease");  // the mapping holds it
    const CUmemAccessDesc access{properties.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    check(driver_.set_access(at, static_cast<std::size_t>(more), &access, 1), "cuMemSetAccess");
    mapped += more;
  }

  void release(void* block, std::int64_t bytes) noexcept override {
    cudaDeviceSynchronize();
    const auto at = reinterpret_cast<CUdeviceptr>(block);
    if (mapped_[block] > 0) driver_.unmap(at, static_cast<std::size_t>(mapped_[block]));
    driver_.free_addresses(at, static_cast<std::size_t>(in_granules(bytes)));
    mapped_.erase(block);
  }

 private:
  CUmemAllocationProp on_device() const {
    CUmemAllocationProp properties{};
    properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, device_};
    return properties;
  }

  int device_;
  Driver driver_;
  std::map<void*, std::int64_t> mapped_;  ///< bytes at the beginning of each block
};

}  // namespace

std::unique_ptr<MemorySource> mapped_device_memory(int device) { return std::make_unique<MappedMemory>(device); }

}  // namespace moesaic
