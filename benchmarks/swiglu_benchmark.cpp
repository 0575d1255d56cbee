#include "moesaic/kernels/swiglu.hpp"
#include "operands.hpp"

namespace moesaic {
namespace {

void forward(benchmark::State& state) {
  const std::int64_t rows = state.range(0), width = state.range(1);
  Operands operands;
  const Tensor gate_up = operands.floats({rows, 2 * width}), y = operands.floats({rows, width});
  for (auto _ : state) reference::swiglu_forward(operands.context(), {}, gate_up, y);
  report_bytes(state, 4.0 * 3 * static_cast<double>(rows * width));
}

void backward(benchmark::State& state) {
  const std::int64_t rows = state.range(0), width = state.range(1);
  Operands operands;
  const Tensor gate_up = operands.floats({rows, 2 * width}), dy = operands.floats({rows, width});
  const Tensor gradient = operands.floats({rows, 2 * width});
  for (auto _ : state) reference::swiglu_backward(operands.context(), {}, gate_up, dy, gradient);
  report_bytes(state, 4.0 * 5 * static_cast<double>(rows * width));
}

BENCHMARK(forward)->Args({4096, 256})->Args({16384, 768})->UseRealTime();
BENCHMARK(backward)->Args({4096, 256})->Args({16384, 768})->UseRealTime();

}  // namespace
}  // namespace moesaic
