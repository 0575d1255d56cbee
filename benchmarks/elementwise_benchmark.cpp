#include "moesaic/kernels/elementwise.hpp"
#include "operands.hpp"

namespace moesaic {
namespace {

void fill(benchmark::State& state) {
  Operands operands;
  const Tensor x = operands.floats({state.range(0)});
  for (auto _ : state) reference::fill(operands.context(), 0, x);
  report_bytes(state, 4.0 * static_cast<double>(state.range(0)));
}

void copy(benchmark::State& state) {
  Operands operands;
  const Tensor in = operands.floats({state.range(0)}), out = operands.floats({state.range(0)});
  for (auto _ : state) reference::copy(operands.context(), in, out);
  report_bytes(state, 4.0 * 2 * static_cast<double>(state.range(0)));
}

void accumulate(benchmark::State& state) {
  Operands operands;
  const Tensor in = operands.floats({state.range(0)}), out = operands.floats({state.range(0)});
  for (auto _ : state) reference::accumulate(operands.context(), in, out);
  report_bytes(state, 4.0 * 3 * static_cast<double>(state.range(0)));
}

void scale(benchmark::State& state) {
  Operands operands;
  const Tensor x = operands.floats({state.range(0)});
  for (auto _ : state) reference::scale(operands.context(), 1, x);
  report_bytes(state, 4.0 * 2 * static_cast<double>(state.range(0)));
}

void sum_of_squares(benchmark::State& state) {
  Operands operands;
  const Tensor x = operands.floats({state.range(0)});
  double result = 0;
  for (auto _ : state) reference::sum_of_squares(operands.context(), x, host_view(&result, {1}));
  report_bytes(state, 4.0 * static_cast<double>(state.range(0)));
}

void sum(benchmark::State& state) {
  Operands operands;
  const Tensor x = operands.floats({state.range(0)});
  double result = 0;
  for (auto _ : state) reference::sum(operands.context(), x, host_view(&result, {1}));
  report_bytes(state, 4.0 * static_cast<double>(state.range(0)));
}

// Activations of the quick start, all its parameters, and a tensor beyond the caches.
#define MOESAIC_SIZES Arg(2048 * 128)->Arg(3'400'000)->Arg(50'000'000)->UseRealTime()
BENCHMARK(fill)->MOESAIC_SIZES;
BENCHMARK(copy)->MOESAIC_SIZES;
BENCHMARK(accumulate)->MOESAIC_SIZES;
BENCHMARK(scale)->MOESAIC_SIZES;
BENCHMARK(sum_of_squares)->MOESAIC_SIZES;
BENCHMARK(sum)->MOESAIC_SIZES;
#undef MOESAIC_SIZES

}  // namespace
}  // namespace moesaic
