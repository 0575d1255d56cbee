// Host memory for transfers is plain memory where there is no device.
#include "moesaic/tensor/transfer_memory.hpp"

#include <gtest/gtest.h>

#include <cstring>

namespace moesaic {
namespace {

TEST(TransferMemory, IsHostMemory) {
  const auto memory = transfer_memory(DeviceKind::cpu);
  EXPECT_EQ(memory->device(), DeviceKind::cpu);
  constexpr std::int64_t bytes = 1 << 20;
  void* block = memory->acquire(bytes);
  std::memset(block, 1, bytes);
  memory->release(block, bytes);
}

/// What a refusal leads to: in a program without CUDA, or on a machine without a device, nothing is pinned.
TEST(TransferMemory, IsUsableWhereNothingCanBePinned) {
  const auto memory = transfer_memory(DeviceKind::cuda);
  EXPECT_EQ(memory->device(), DeviceKind::cpu);
  constexpr std::int64_t bytes = 1 << 20;
  for (int again = 0; again < 2; ++again) {
    void* block = memory->acquire(bytes);
    memory->commit(block, bytes);
    std::memset(block, again, bytes);
    memory->release(block, bytes);
  }
}

}  // namespace
}  // namespace moesaic
