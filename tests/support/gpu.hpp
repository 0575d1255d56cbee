#pragma once
/// What the tests of CUDA operators share: a device, a stream of their own, an arena, transfers.

#include <gtest/gtest.h>

#include <cmath>

#include "moesaic/kernels/context.hpp"
#include "moesaic/tensor/cuda_memory.hpp"
#include "support/host_context.hpp"
#include "support/host_tensor.hpp"

namespace moesaic {

/// Skips where there is no device. Work runs on a stream other than the default one, memory comes from one arena.
class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (num_cuda_devices() == 0) GTEST_SKIP() << "no CUDA device (or driver) on this machine";
    arena = std::make_unique<Arena>(device_memory(0), std::int64_t{1} << 30, false);
    check_cuda(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    context = {{DeviceKind::cuda, handle_}, arena.get()};
  }

  void TearDown() override {
    if (handle_ != nullptr) cudaStreamDestroy(handle_);
  }

  /// A contiguous copy on the device.
  Tensor to_device(ConstView host) {
    Tensor copy = arena->tensor(host.dtype(), host.extents(), Label::activations);
    copy_to_device(context.stream, host, copy);
    return copy;
  }

  /// Memory on the device that holds NaN (every bit set).
  Tensor poisoned(DType type, Extents extents) {
    Tensor result = arena->tensor(type, extents, Label::activations);
    const auto bytes = static_cast<std::size_t>(result.view().bytes());
    if (bytes > 0) check_cuda(cudaMemsetAsync(result.view().raw(), 0xff, bytes, handle_), "cudaMemsetAsync");
    return result;
  }

  /// A contiguous copy on the host, after all work of the stream.
  HostTensor to_host(ConstView device) {
    HostTensor copy(device.dtype(), device.extents());
    copy_to_host(context.stream, device, copy);
    synchronise(context.stream);
    return copy;
  }

  std::unique_ptr<Arena> arena;
  OperatorContext context;
  HostContext on_host;  ///< for the reference operators

 private:
  cudaStream_t handle_ = nullptr;
};

/// The same numbers in another floating-point type.
inline HostTensor converted(ConstView values, DType type) {
  HostTensor result(type, values.extents());
  for (std::int64_t i = 0; i < values.size(); ++i) set_element(result, i, element(values, i));
  return result;
}

/// ||actual - expected|| / ||expected||; NaN where one of them is, 0 when both are zero.
inline double relative_error(ConstView actual, ConstView expected) {
  double difference = 0, norm = 0;
  for (std::int64_t i = 0; i < expected.size(); ++i) {
    difference += std::pow(element(actual, i) - element(expected, i), 2);
    norm += std::pow(element(expected, i), 2);
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

/// How close a result stored as `type` comes to exact arithmetic.
inline double tolerance_of(DType type) { return type == DType::bf16 ? 5e-3 : type == DType::f32 ? 1e-5 : 1e-13; }

}  // namespace moesaic
