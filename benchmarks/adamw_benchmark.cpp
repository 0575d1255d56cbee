#include "moesaic/kernels/adamw.hpp"
#include "operands.hpp"

namespace moesaic {
namespace {

void adamw(benchmark::State& state) {
  const std::int64_t size = state.range(0);
  Operands operands;
  const Tensor gradient = operands.floats({size}), parameters = operands.floats({size});
  const Tensor first = operands.floats({size}), second = operands.floats({size});
  for (std::int64_t i = 0; i < size; ++i) second.view().data<float>()[i] = 1;
  const AdamwStep step{.lr = 1e-3, .weight_decay = 0.1, .step = 10};
  for (auto _ : state) reference::adamw(operands.context(), step, gradient, parameters, first, second, View());
  report_bytes(state, 4.0 * 7 * static_cast<double>(size));
}

// All parameters of the quick start, and of a model a hundred times as large.
BENCHMARK(adamw)->Arg(3'400'000)->Arg(50'000'000)->UseRealTime();

}  // namespace
}  // namespace moesaic
