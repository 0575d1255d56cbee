#include "moesaic/tensor/transfer_memory.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "moesaic/base/log.hpp"
#include "moesaic/base/text.hpp"

#ifdef MOESAIC_CUDA
#include <cuda_runtime_api.h>
#endif

namespace moesaic {
namespace {

/// Pages of a block that nobody wrote to yet are taken from the system: 2 MiB at once where it has them.
void take_pages(std::byte* pages, std::int64_t bytes) { std::memset(pages, 0, static_cast<std::size_t>(bytes)); }

int current_device();
void use_device(int device);

class PinnedMemory final : public MemorySource {
 public:
  DeviceKind device() const override { return DeviceKind::cpu; }

  void* acquire(std::int64_t bytes) override {
    void* block = pages_->acquire(bytes);
    blocks_[block].bytes = bytes;
    return block;
  }

  void commit(void* block, std::int64_t bytes) override {
    use_device(device_);  // the caller may be another thread than the one that trains
    Block& known = blocks_.at(block);
    while (known.committed < std::min(bytes, known.bytes)) {
      std::byte* piece = static_cast<std::byte*>(block) + known.committed;
      const std::int64_t size = std::min(transfer_granule, known.bytes - known.committed);
      take_pages(piece, size);
      if (known.refused || !pin_pages(piece, size))
        refuse(known);
      else
        known.pinned.push_back(piece);
      known.committed += size;
    }
  }

  void release(void* block, std::int64_t bytes) noexcept override {
    for (void* piece : blocks_[block].pinned) unpin_pages(piece);
    blocks_.erase(block);
    pages_->release(block, bytes);
  }

 private:
  struct Block {
    std::int64_t bytes = 0, committed = 0;
    std::vector<void*> pinned;
    bool refused = false;  ///< once, and not tried again
  };

  void refuse(Block& block) {
    if (!std::exchange(block.refused, true))
      log_warn(
          "of {} of host memory {} cannot be pinned (copies of the state stall training for longer); leave more memory "
          "free on this node, or use more nodes",
          format_bytes(block.bytes), format_bytes(block.bytes - block.committed));
  }

  int device_ = current_device();
  std::unique_ptr<MemorySource> pages_ = host_memory();
  std::map<void*, Block> blocks_;
};

}  // namespace

std::unique_ptr<MemorySource> transfer_memory(DeviceKind kind) {
  if (kind == DeviceKind::cpu) return host_memory();
  return std::make_unique<PinnedMemory>();
}

#ifdef MOESAIC_CUDA

namespace {

int current_device() {
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) cudaGetLastError();
  return device;
}

void use_device(int device) {
  if (cudaSetDevice(device) != cudaSuccess) cudaGetLastError();
}

}  // namespace

bool pin_pages(void* block, std::int64_t bytes) noexcept {
  if (cudaHostRegister(block, static_cast<std::size_t>(bytes), cudaHostRegisterDefault) == cudaSuccess) return true;
  cudaGetLastError();
  return false;
}

void unpin_pages(void* block) noexcept { cudaHostUnregister(block); }

#else

namespace {

int current_device() { return 0; }
void use_device(int) {}

}  // namespace

bool pin_pages(void*, std::int64_t) noexcept { return false; }
void unpin_pages(void*) noexcept {}

#endif

}  // namespace moesaic
