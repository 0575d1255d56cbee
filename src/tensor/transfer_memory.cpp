#include "moesaic/tensor/transfer_memory.hpp"

#include <set>
#include <utility>

#include "moesaic/base/log.hpp"
#include "moesaic/base/text.hpp"

#ifdef MOESAIC_CUDA
#include <cuda_runtime_api.h>
#endif

namespace moesaic {
namespace {

class PinnedMemory final : public MemorySource {
 public:
  DeviceKind device() const override { return DeviceKind::cpu; }

  void* acquire(std::int64_t bytes) override {
    void* block = pages_->acquire(bytes);
    if (pin_pages(block, bytes))
      pinned_.insert(block);
    else if (!std::exchange(warned_, true))
      log_warn(
          "{} of host memory cannot be pinned (copies of the state stall training for longer); leave more memory free "
          "on this node, or use more nodes",
          format_bytes(bytes));
    return block;
  }

  void release(void* block, std::int64_t bytes) noexcept override {
    if (pinned_.erase(block) > 0) unpin_pages(block);
    pages_->release(block, bytes);
  }

 private:
  std::unique_ptr<MemorySource> pages_ = host_memory();
  std::set<void*> pinned_;
  bool warned_ = false;
};

}  // namespace

std::unique_ptr<MemorySource> transfer_memory(DeviceKind kind) {
  if (kind == DeviceKind::cpu) return host_memory();
  return std::make_unique<PinnedMemory>();
}

#ifdef MOESAIC_CUDA

bool pin_pages(void* block, std::int64_t bytes) noexcept {
  if (cudaHostRegister(block, static_cast<std::size_t>(bytes), cudaHostRegisterDefault) == cudaSuccess) return true;
  cudaGetLastError();
  return false;
}

void unpin_pages(void* block) noexcept { cudaHostUnregister(block); }

#else

bool pin_pages(void*, std::int64_t) noexcept { return false; }
void unpin_pages(void*) noexcept {}

#endif

}  // namespace moesaic
