#include "moesaic/kernels/rotary.hpp"
#include "operands.hpp"

namespace moesaic {
namespace {

/// Arguments: tokens, heads, width, interleaved.
void rotary(benchmark::State& state) {
  const std::int64_t tokens = state.range(0), heads = state.range(1), width = state.range(2), length = 256;
  const RotaryPairs pairs = state.range(3) == 0 ? RotaryPairs::halves : RotaryPairs::interleaved;
  Operands operands;
  const Tensor x = operands.floats({tokens, heads, width}), positions = operands.integers({tokens}, length);
  const Tensor cosine = operands.floats({length, width / 2}), sine = operands.floats({length, width / 2});
  for (auto _ : state)  // there and back, so that the values stay as they are
    for (const RotaryDirection direction : {RotaryDirection::forward, RotaryDirection::backward})
      reference::rotary(operands.context(), x, cosine, sine, positions, pairs, direction);
  report_bytes(state, 4.0 * 4 * static_cast<double>(tokens * heads * width));
}

BENCHMARK(rotary)->Args({2048, 4, 32, 0})->Args({2048, 4, 32, 1})->Args({8192, 16, 128, 0})->UseRealTime();

}  // namespace
}  // namespace moesaic
