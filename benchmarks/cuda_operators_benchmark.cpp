// Rates of the CUDA operators, timed by CUDA events on a stream of their own.
#include <benchmark/benchmark.h>

#include <memory>

#include "moesaic/kernels/operators.hpp"
#include "moesaic/tensor/cuda_memory.hpp"

namespace moesaic {
namespace {

class Device {
 public:
  Device() {
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    check_cuda(cudaEventCreate(&start_), "cudaEventCreate");
    check_cuda(cudaEventCreate(&stop_), "cudaEventCreate");
  }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  ~Device() {
    cudaEventDestroy(start_);
    cudaEventDestroy(stop_);
    cudaStreamDestroy(stream_);
  }

  OperatorContext context() { return {{DeviceKind::cuda, stream_}, &arena_}; }

  /// Small positive numbers: every byte 0x3c (0.0115 as bf16 and f32).
  Tensor tensor(DType type, Extents extents) {
    Tensor result = arena_.tensor(type, extents, Label::activations);
    check_cuda(cudaMemsetAsync(result.view().raw(), 0x3c, static_cast<std::size_t>(result.view().bytes()), stream_),
               "cudaMemsetAsync");
    return result;
  }

  /// Runs `work` until the benchmark has enough, `repeats` times between two events: launches overlap as in a step.
  template <class Work> void time(benchmark::State& state, const Work& work) {
    constexpr int repeats = 20;
    for (int i = 0; i < 3; ++i) work();
    for (auto _ : state) {
      check_cuda(cudaEventRecord(start_, stream_), "cudaEventRecord");
      for (int i = 0; i < repeats; ++i) work();
      check_cuda(cudaEventRecord(stop_, stream_), "cudaEventRecord");
      check_cuda(cudaEventSynchronize(stop_), "cudaEventSynchronize");
      float milliseconds = 0;
      check_cuda(cudaEventElapsedTime(&milliseconds, start_, stop_), "cudaEventElapsedTime");
      state.SetIterationTime(static_cast<double>(milliseconds) * 1e-3 / repeats);
    }
  }

 private:
  Arena arena_{device_memory(0), std::int64_t{8} << 30, false};
  cudaStream_t stream_ = nullptr;
  cudaEvent_t start_ = nullptr, stop_ = nullptr;
};

/// The device, or null after the benchmark has been skipped.
std::unique_ptr<Device> device_for(benchmark::State& state) {
  if (num_cuda_devices() > 0) return std::make_unique<Device>();
  state.SkipWithError("no CUDA device (or driver) on this machine");
  return nullptr;
}

void report(benchmark::State& state, const char* name, double amount) {
  state.counters[name] = benchmark::Counter(amount, benchmark::Counter::kIsIterationInvariantRate);
}

/// m, n, k; inputs and output.
void gemm(benchmark::State& state, DType inputs, DType output) {
  const auto device = device_for(state);
  if (!device) return;
  const std::int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  const Tensor a = device->tensor(inputs, {m, k}), b = device->tensor(inputs, {n, k}),
               c = device->tensor(output, {m, n});
  device->time(state, [&] { cuda::gemm(device->context(), Transpose::no, Transpose::yes, 1, a, b, 0, c); });
  report(state, "FLOP/s", 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k));
}

struct Norm {
  Norm(Device& device, const benchmark::State& state, DType type)
      : x(device.tensor(type, {state.range(0), state.range(1)})), y(device.tensor(type, x.view().extents())),
        weight(device.tensor(type, {state.range(1)})), inverse_rms(device.tensor(DType::f32, {state.range(0)})),
        x_gradient(device.tensor(type, x.view().extents())),
        weight_gradient(device.tensor(DType::f32, {state.range(1)})) {}

  Tensor x, y, weight, inverse_rms, x_gradient, weight_gradient;
};

/// Bytes: x read, y written.
void rms_norm_forward(benchmark::State& state, DType type) {
  const auto device = device_for(state);
  if (!device) return;
  const Norm norm(*device, state, type);
  device->time(state,
               [&] { cuda::rms_norm_forward(device->context(), norm.x, norm.weight, 1e-6, norm.y, norm.inverse_rms); });
  report(state, "B/s", 2.0 * static_cast<double>(norm.x.view().bytes()));
}

/// Bytes: x and the output's gradient read, x's gradient written.
void rms_norm_backward(benchmark::State& state, DType type) {
  const auto device = device_for(state);
  if (!device) return;
  const Norm norm(*device, state, type);
  device->time(state, [&] {
    cuda::rms_norm_backward(device->context(), norm.x, norm.weight, norm.inverse_rms, norm.y, 0, norm.x_gradient,
                            norm.weight_gradient);
  });
  report(state, "B/s", 3.0 * static_cast<double>(norm.x.view().bytes()));
}

/// Bytes: gradient read, parameter and moments read and written.
void adamw(benchmark::State& state, DType moments) {
  const auto device = device_for(state);
  if (!device) return;
  const std::int64_t size = state.range(0);
  const Tensor gradient = device->tensor(DType::f32, {size}), parameters = device->tensor(DType::f32, {size});
  const Tensor first = device->tensor(moments, {size}), second = device->tensor(moments, {size});
  device->time(state, [&] {
    cuda::adamw(device->context(), {.lr = 1e-3, .weight_decay = 0.1, .step = 10}, gradient, parameters, first, second,
                View());
  });
  report(state, "B/s", static_cast<double>(size) * (12.0 + 4.0 * static_cast<double>(size_of(moments))));
}

void products(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"m", "n", "k"})->UseManualTime();
  benchmark->Args({8192, 8192, 8192})->Args({16384, 2048, 4096})->Args({16384, 768, 2048});
}
void rows(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"rows", "width"})->UseManualTime();
  benchmark->Args({16384, 2048})->Args({16384, 7168})->Args({16384 * 32, 128});
}

BENCHMARK_CAPTURE(gemm, bf16, DType::bf16, DType::bf16)->Apply(products);
BENCHMARK_CAPTURE(gemm, bf16_to_f32, DType::bf16, DType::f32)->Apply(products);
BENCHMARK_CAPTURE(gemm, f32, DType::f32, DType::f32)->Args({8192, 8192, 8192})->UseManualTime();
BENCHMARK_CAPTURE(rms_norm_forward, bf16, DType::bf16)->Apply(rows);
BENCHMARK_CAPTURE(rms_norm_forward, f32, DType::f32)->Apply(rows);
BENCHMARK_CAPTURE(rms_norm_backward, bf16, DType::bf16)->Apply(rows);
BENCHMARK_CAPTURE(rms_norm_backward, f32, DType::f32)->Apply(rows);
BENCHMARK_CAPTURE(adamw, f32_moments, DType::f32)->Arg(1 << 28)->UseManualTime();
BENCHMARK_CAPTURE(adamw, bf16_moments, DType::bf16)->Arg(1 << 28)->UseManualTime();

}  // namespace
}  // namespace moesaic
