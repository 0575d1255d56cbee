// Pinned host memory: that it is, that copies through it are right, and what a refusal leaves behind.
#include "moesaic/tensor/transfer_memory.hpp"

#include "moesaic/tensor/transfer.hpp"
#include "support/gpu.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

using TransferMemory = GpuTest;

cudaMemoryType type_of(const void* memory) {
  cudaPointerAttributes attributes{};
  check_cuda(cudaPointerGetAttributes(&attributes, memory), "cudaPointerGetAttributes");
  return attributes.type;
}

TEST_F(TransferMemory, IsPinnedForADevice) {
  constexpr std::int64_t bytes = (std::int64_t{3} << 20) + 64;
  const auto pinned = transfer_memory(DeviceKind::cuda), plain = transfer_memory(DeviceKind::cpu);
  void* ours = pinned->acquire(bytes);
  EXPECT_EQ(type_of(ours), cudaMemoryTypeUnregistered) << "pinned before it was committed";
  void* theirs = plain->acquire(bytes);
  pinned->commit(ours, bytes);
  plain->commit(theirs, bytes);
  EXPECT_EQ(type_of(ours), cudaMemoryTypeHost);
  EXPECT_EQ(type_of(static_cast<char*>(ours) + bytes - 1), cudaMemoryTypeHost);
  EXPECT_EQ(type_of(theirs), cudaMemoryTypeUnregistered);
  pinned->release(ours, bytes);
  plain->release(theirs, bytes);
}

TEST_F(TransferMemory, IsPinnedPieceByPiece) {
  const auto memory = transfer_memory(DeviceKind::cuda);
  const std::int64_t bytes = 2 * transfer_granule + 4096;
  auto* block = static_cast<char*>(memory->acquire(bytes));
  memory->commit(block, transfer_granule + 1);
  EXPECT_EQ(type_of(block), cudaMemoryTypeHost);
  EXPECT_EQ(type_of(block + 2 * transfer_granule - 1), cudaMemoryTypeHost);
  EXPECT_EQ(type_of(block + 2 * transfer_granule), cudaMemoryTypeUnregistered);
  block[0] = 7;
  memory->commit(block, bytes);
  EXPECT_EQ(type_of(block + bytes - 1), cudaMemoryTypeHost);
  EXPECT_EQ(block[0], 7) << "what was committed before is kept";
  memory->release(block, bytes);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(TransferMemory, CopiesThroughItAreRight) {
  constexpr std::int64_t size = 1000003;
  const HostTensor values = random_tensor(DType::f32, {size}, 1);
  const Tensor device = to_device(values);
  const auto memory = transfer_memory(DeviceKind::cuda);
  void* block = memory->acquire(size * 4);
  memory->commit(block, size * 4);
  const View host(block, DType::f32, DeviceKind::cpu, {size});
  begin_download(context.stream, device, host);
  wait_for(context.stream);
  EXPECT_EQ(max_difference(host, values), 0);
  memory->release(block, size * 4);
}

TEST_F(TransferMemory, ARefusalLeavesNoErrorAndTheMemoryUsable) {
  constexpr std::int64_t bytes = 1 << 20;
  const auto memory = transfer_memory(DeviceKind::cuda);
  void* block = memory->acquire(bytes);
  memory->commit(block, bytes);
  EXPECT_FALSE(pin_pages(block, bytes)) << "what is pinned already was pinned again";
  EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "the refusal must not be found by the next check";
  memory->release(block, bytes);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

}  // namespace
}  // namespace moesaic
