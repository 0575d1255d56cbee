#include "moesaic/kernels/rms_norm.hpp"
#include "operands.hpp"

namespace moesaic {
namespace {

void forward(benchmark::State& state) {
  const std::int64_t rows = state.range(0), width = state.range(1);
  Operands operands;
  const Tensor x = operands.floats({rows, width}), weight = operands.floats({width});
  const Tensor y = operands.floats({rows, width}), inverse_rms = operands.floats({rows});
  for (auto _ : state) reference::rms_norm_forward(operands.context(), x, weight, 1e-6, y, inverse_rms);
  report_bytes(state, 4.0 * 2 * static_cast<double>(rows * width));
}

void backward(benchmark::State& state) {
  const std::int64_t rows = state.range(0), width = state.range(1);
  Operands operands;
  const Tensor x = operands.floats({rows, width}), weight = operands.floats({width}),
               dy = operands.floats({rows, width});
  const Tensor inverse_rms = operands.floats({rows}), dx = operands.floats({rows, width}),
               dw = operands.floats({width});
  for (auto _ : state) reference::rms_norm_backward(operands.context(), x, weight, inverse_rms, dy, 0, dx, dw);
  report_bytes(state, 4.0 * 3 * static_cast<double>(rows * width));
}

// The quick start's blocks and its heads, then a larger layer.
BENCHMARK(forward)->Args({2048, 128})->Args({8192, 32})->Args({8192, 2048})->UseRealTime();
BENCHMARK(backward)->Args({2048, 128})->Args({8192, 32})->Args({8192, 2048})->UseRealTime();

}  // namespace
}  // namespace moesaic
