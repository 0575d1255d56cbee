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
