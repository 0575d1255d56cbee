#pragma once
/// A CUDA device under a benchmark: memory with random contents, and times by CUDA events.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "moesaic/kernels/context.hpp"
#include "moesaic/tensor/cuda_memory.hpp"

namespace moesaic {

class CudaDevice {
 public:
  explicit CudaDevice(std::int64_t bytes) : arena_(device_memory(0), bytes, false), noise_(random_bf16()) {
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    check_cuda(cudaEventCreate(&start_), "cudaEventCreate");
    check_cuda(cudaEventCreate(&stop_), "cudaEventCreate");
  }
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;
  ~CudaDevice() {
    cudaEventDestroy(start_);
    cudaEventDestroy(stop_);
    cudaStreamDestroy(stream_);
  }

  OperatorContext context(bool deterministic = true) { return {{DeviceKind::cuda, stream_}, &arena_, deterministic}; }

  Tensor tensor(DType type, Extents extents) { return arena_.tensor(type, extents, Label::activations); }

  /// Normally distributed bf16 (zeros draw less power, so that the device runs faster on them).
  Tensor random(Extents extents) {
    Tensor result = tensor(DType::bf16, extents);
    auto* to = static_cast<bf16*>(result.view().raw());
    const auto period = static_cast<std::int64_t>(noise_.size());
    for (std::int64_t i = 0; i < extents.size(); i += period)
      upload(noise_.data(), to + i, std::min(period, extents.size() - i));
    return result;
  }

  template <class T> Tensor integers(const std::vector<T>& values) {
    Tensor result = tensor(dtype_of<T>::value, {static_cast<std::int64_t>(values.size())});
    upload(values.data(), result.view().template data<T>(), static_cast<std::int64_t>(values.size()));
    return result;
  }

  /// The median of 20 runs, each timed alone, after 5 that are not.
  template <class Work> void time(benchmark::State& state, const Work& work) {
    time(
        state, [] {}, work);
  }

  /// The same of `work` alone, `before` running before each.
  template <class Before, class Work> void time(benchmark::State& state, const Before& before, const Work& work) {
    for (int i = 0; i < 5; ++i) before(), work();
    for (auto _ : state) {
      std::vector<float> milliseconds(20);
      for (float& time : milliseconds) {
        before();
        check_cuda(cudaEventRecord(start_, stream_), "cudaEventRecord");
        work();
        check_cuda(cudaEventRecord(stop_, stream_), "cudaEventRecord");
        check_cuda(cudaEventSynchronize(stop_), "cudaEventSynchronize");
        check_cuda(cudaEventElapsedTime(&time, start_, stop_), "cudaEventElapsedTime");
      }
      std::nth_element(milliseconds.begin(), milliseconds.begin() + 10, milliseconds.end());
      state.SetIterationTime(static_cast<double>(milliseconds[10]) * 1e-3);
    }
  }

 private:
  static std::vector<bf16> random_bf16() {
    constexpr std::size_t period = 10'000'019;  // so that rows of no width repeat
    std::mt19937 generator(1);
    std::normal_distribution<float> normal;
    std::vector<bf16> values(period);
    std::generate(values.begin(), values.end(), [&] { return to_bf16(normal(generator)); });
    return values;
  }
  template <class T> void upload(const T* from, T* to, std::int64_t count) {
    check_cuda(cudaMemcpyAsync(to, from, static_cast<std::size_t>(count) * sizeof(T), cudaMemcpyHostToDevice, stream_),
               "cudaMemcpyAsync");
    check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  }

  Arena arena_;
  std::vector<bf16> noise_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t start_ = nullptr, stop_ = nullptr;
};

/// The device, made on first use; null, the benchmark skipped, where there is none.
inline CudaDevice* cuda_device(benchmark::State& state) {
  if (num_cuda_devices() == 0) {
    state.SkipWithError("no CUDA device (or driver) on this machine");
    return nullptr;
  }
  static CudaDevice device(std::int64_t{24} << 30);
  return &device;
}

inline void report_bytes(benchmark::State& state, double bytes) {
  state.counters["B/s"] = benchmark::Counter(bytes, benchmark::Counter::kIsIterationInvariantRate);
}

inline void report_flops(benchmark::State& state, double flops) {
  state.counters["FLOP/s"] = benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
}

}  // namespace moesaic
