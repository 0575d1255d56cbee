#include "moesaic/kernels/gemm.hpp"
#include "operands.hpp"

namespace moesaic {
namespace {

/// c [m, n] = a [m, k] b [n, k]^T: a linear layer forward.
void linear(benchmark::State& state) {
  const std::int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  Operands operands;
  const Tensor a = operands.floats({m, k}), b = operands.floats({n, k}), c = operands.floats({m, n});
  for (auto _ : state) reference::gemm(operands.context(), Transpose::no, Transpose::yes, 1, a, b, 0, c);
  report_flops(state, 2.0 * static_cast<double>(m * n * k));
}

/// c [n, k] += a [m, n]^T b [m, k]: its weight gradient.
void weight_gradient(benchmark::State& state) {
  const std::int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  Operands operands;
  const Tensor a = operands.floats({m, n}), b = operands.floats({m, k}), c = operands.floats({n, k});
  for (auto _ : state) reference::gemm(operands.context(), Transpose::yes, Transpose::no, 1e-9, a, b, 1, c);
  report_flops(state, 2.0 * static_cast<double>(m * n * k));
}

/// Arguments: rows, experts, n, k.
void grouped(benchmark::State& state) {
  const std::int64_t rows = state.range(0), experts = state.range(1), n = state.range(2), k = state.range(3);
  Operands operands;
  const Tensor in = operands.floats({rows, k}), weights = operands.floats({experts, n, k});
  const Tensor out = operands.floats({rows, n}), offsets = operands.offsets(experts, rows);
  for (auto _ : state) reference::grouped_gemm(operands.context(), Transpose::yes, in, weights, offsets, out);
  report_flops(state, 2.0 * static_cast<double>(rows * n * k));
}

void grouped_weight_gradient(benchmark::State& state) {
  const std::int64_t rows = state.range(0), experts = state.range(1), n = state.range(2), k = state.range(3);
  Operands operands;
  const Tensor in = operands.floats({rows, k}), gradient = operands.floats({experts, n, k});
  const Tensor dy = operands.floats({rows, n}), offsets = operands.offsets(experts, rows);
  for (auto _ : state) reference::grouped_gemm_weight_gradient(operands.context(), dy, in, offsets, 0, gradient);
  report_flops(state, 2.0 * static_cast<double>(rows * n * k));
}

// The quick start's projections, router and head, then a larger layer.
BENCHMARK(linear)
    ->Args({2048, 256, 128})
    ->Args({2048, 128, 128})
    ->Args({2048, 8, 128})
    ->Args({512, 128, 128})
    ->Args({4096, 2048, 2048})
    ->UseRealTime();
BENCHMARK(weight_gradient)
    ->Args({2048, 256, 128})
    ->Args({2048, 8, 128})
    ->Args({512, 128, 128})
    ->Args({4096, 2048, 2048})
    ->UseRealTime();
BENCHMARK(grouped)
    ->Args({4096, 8, 512, 128})
    ->Args({4096, 8, 128, 256})
    ->Args({1024, 8, 512, 128})
    ->Args({16384, 64, 1536, 1024})
    ->UseRealTime();
BENCHMARK(grouped_weight_gradient)
    ->Args({4096, 8, 512, 128})
    ->Args({4096, 8, 128, 256})
    ->Args({16384, 64, 1536, 1024})
    ->UseRealTime();

}  // namespace
}  // namespace moesaic
