#include "moesaic/tensor/cuda_memory.hpp"

#include "support/gpu.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

using CudaMemory = GpuTest;

TEST_F(CudaMemory, CopiesThereAndBack) {
  for (const std::int64_t size : {0, 1, 131, 1000003}) {
    const HostTensor values = random_tensor(DType::f32, {size}, 1);
    EXPECT_EQ(max_difference(to_host(to_device(values)), values), 0);
  }
}

TEST_F(CudaMemory, ArenaLendsAlignedDeviceMemory) {
  EXPECT_EQ(arena->device(), DeviceKind::cuda);
  const Tensor first = arena->tensor(DType::u8, {1}, Label::activations);
  const Tensor second = arena->tensor(DType::u8, {1}, Label::activations);
  EXPECT_EQ(second.view().device(), DeviceKind::cuda);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(second.view().raw()) % 256, 0);
}

std::int64_t free_bytes() {
  std::size_t available = 0, total = 0;
  check_cuda(cudaMemGetInfo(&available, &total), "cudaMemGetInfo");
  return static_cast<std::int64_t>(available);
}

TEST_F(CudaMemory, MappedMemoryIsTakenAsTheArenaReachesIntoIt) {
  constexpr std::int64_t mebi = std::int64_t{1} << 20;
  const std::int64_t before = free_bytes();
  {
    Arena mapped(mapped_device_memory(0), 1024 * mebi, false);
    EXPECT_EQ(free_bytes(), before);
    const HostTensor values = random_tensor(DType::f32, {50 * mebi / 4}, 1);
    const Tensor first = mapped.tensor(DType::f32, values.view().extents(), Label::activations);
    EXPECT_EQ(before - free_bytes(), 64 * mebi);
    const Tensor second = mapped.tensor(DType::f32, {100 * mebi / 4}, Label::activations);  // over a seam
    EXPECT_EQ(before - free_bytes(), 192 * mebi);
    const View part = second.view().rows(0, values.view().size());
    for (const View& place : {first.view(), part}) {
      copy_to_device(context.stream, values.view(), place);
      HostTensor back(DType::f32, values.view().extents());
      copy_to_host(context.stream, place, back);
      synchronise(context.stream);
      EXPECT_EQ(max_difference(back, values), 0);
    }
    EXPECT_THROW(mapped.allocate(std::int64_t{1} << 50, Label::activations), RunError);
  }
  EXPECT_EQ(free_bytes(), before);
}

TEST_F(CudaMemory, RefusesWhatTheDeviceLacks) {
  const auto memory = device_memory(0);
  try {
    memory->acquire(std::int64_t{1} << 50);
    FAIL() << "a pebibyte was found";
  } catch (const RunError& error) {
    EXPECT_NE(std::string(error.what()).find("1125899906842624 were asked for"), std::string::npos) << error.what();
  }
  EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "the refusal must not be found by the next check";
}

TEST_F(CudaMemory, ErrorsSayWhatFailed) {
  try {
    check_cuda(cudaErrorInvalidValue, "the test");
    FAIL() << "no error";
  } catch (const RunError& error) {
    EXPECT_EQ(std::string(error.what()).find("the test failed: "), 0) << error.what();
  }
}

}  // namespace
}  // namespace moesaic
