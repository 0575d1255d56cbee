// Rates of the grouped products of experts on a GPU, at the shapes of published models.
#include "cuda_device.hpp"
#include "moesaic/kernels/gemm.hpp"

namespace moesaic {
namespace {

/// Offsets of `experts` that share `rows` evenly, or in proportions from 1 to 4.
std::vector<std::int64_t> offsets_of(std::int64_t experts, std::int64_t rows, bool even) {
  std::vector<double> shares;
  for (std::int64_t e = 0; e < experts; ++e)  // neighbours differ: 37 and most numbers of experts have no common factor
    shares.push_back(even ? 1 : 1 + 3.0 * static_cast<double>(e * 37 % experts) / static_cast<double>(experts));
  double sum = 0, all = 0;
  for (const double share : shares) all += share;
  std::vector<std::int64_t> offsets{0};
  for (const double share : shares) {
    sum += share;
    offsets.push_back(static_cast<std::int64_t>(sum / all * static_cast<double>(rows) + 0.5));
  }
  return offsets;
}

struct Operands {
  Operands(CudaDevice& device, const benchmark::State& state, bool even)
      : experts(state.range(0)), rows(experts * state.range(1)), n(state.range(2)), k(state.range(3)),
        in(device.random({rows, k})), out(device.random({rows, n})),
        offsets(device.integers(offsets_of(experts, rows, even))) {}

  double flops() const { return 2.0 * static_cast<double>(rows) * static_cast<double>(n) * static_cast<double>(k); }

  std::int64_t experts, rows, n, k;
  Tensor in, out, offsets;
};

void forward(benchmark::State& state, bool even) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Operands x(*device, state, even);
  const Tensor weights = device->random({x.experts, x.n, x.k});
  device->time(state, [&] { cuda::grouped_gemm(device->context(), Transpose::yes, x.in, weights, x.offsets, x.out); });
  report_flops(state, x.flops());
}

void input_gradient(benchmark::State& state, bool even) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Operands x(*device, state, even);
  const Tensor weights = device->random({x.experts, x.n, x.k});
  device->time(state, [&] { cuda::grouped_gemm(device->context(), Transpose::no, x.out, weights, x.offsets, x.in); });
  report_flops(state, x.flops());
}

void weight_gradient(benchmark::State& state, DType type, double beta, bool even) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Operands x(*device, state, even);
  const Tensor gradient = device->tensor(type, {x.experts, x.n, x.k});
  cuda::grouped_gemm_weight_gradient(device->context(), x.out, x.in, x.offsets, 0, gradient);
  device->time(state,
               [&] { cuda::grouped_gemm_weight_gradient(device->context(), x.out, x.in, x.offsets, beta, gradient); });
  report_flops(state, x.flops());
}

void shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"experts", "rows", "n", "k"})->UseManualTime()->Iterations(1);
  benchmark->Args({128, 512, 1536, 2048})->Args({128, 512, 2048, 768});  // Qwen3-30B: gate and up, down
  benchmark->Args({128, 1024, 1536, 2048})->Args({128, 1024, 2048, 768});
  benchmark->Args({16, 4096, 1536, 2048})->Args({16, 4096, 2048, 768});   // the same, experts over eight ranks
  benchmark->Args({8, 4096, 4096, 7168})->Args({8, 4096, 7168, 2048});    // DeepSeek-V3
  benchmark->Args({32, 1024, 5760, 2880})->Args({32, 1024, 2880, 2880});  // GPT-OSS-20B
}

BENCHMARK_CAPTURE(forward, even, true)->Apply(shapes);
BENCHMARK_CAPTURE(forward, uneven, false)->Apply(shapes);
BENCHMARK_CAPTURE(input_gradient, even, true)->Apply(shapes);
BENCHMARK_CAPTURE(input_gradient, uneven, false)->Apply(shapes);
BENCHMARK_CAPTURE(weight_gradient, bf16, DType::bf16, 0, true)->Apply(shapes);
BENCHMARK_CAPTURE(weight_gradient, bf16_uneven, DType::bf16, 0, false)->Apply(shapes);
BENCHMARK_CAPTURE(weight_gradient, f32, DType::f32, 0, true)->Apply(shapes);
BENCHMARK_CAPTURE(weight_gradient, f32_adding, DType::f32, 1, true)->Apply(shapes);

}  // namespace
}  // namespace moesaic
