#include "moesaic/kernels/attention.hpp"
#include "operands.hpp"

namespace moesaic {
namespace {

/// Arguments: batch, sequence, heads, key heads, width.
struct AttentionOperands : Operands {
  explicit AttentionOperands(const benchmark::State& state)
      : batch(state.range(0)), sequence(state.range(1)), heads(state.range(2)), key_heads(state.range(3)),
        width(state.range(4)) {}

  Tensor queries() { return floats({batch, sequence, heads, width}); }
  Tensor keys() { return floats({batch, sequence, key_heads, width}); }
  double scale() const { return 1 / std::sqrt(static_cast<double>(width)); }
  /// Of one product of all visible queries and keys.
  double product_flops() const { return static_cast<double>(batch * heads * width * sequence * (sequence + 1)); }

  std::int64_t batch, sequence, heads, key_heads, width;
};

void forward(benchmark::State& state) {
  AttentionOperands operands(state);
  const Tensor q = operands.queries(), k = operands.keys(), v = operands.keys(), out = operands.queries();
  const Tensor log_sum_exp = operands.floats({operands.batch, operands.heads, operands.sequence});
  for (auto _ : state)
    reference::attention_forward(operands.context(), {}, operands.scale(), q, k, v, out, log_sum_exp);
  report_flops(state, 2 * operands.product_flops());
}

void backward(benchmark::State& state) {
  AttentionOperands operands(state);
  const Tensor q = operands.queries(), k = operands.keys(), v = operands.keys(), out = operands.queries();
  const Tensor log_sum_exp = operands.floats({operands.batch, operands.heads, operands.sequence});
  reference::attention_forward(operands.context(), {}, operands.scale(), q, k, v, out, log_sum_exp);
  const Tensor dout = operands.queries(), dq = operands.queries(), dk = operands.keys(), dv = operands.keys();
  for (auto _ : state)
    reference::attention_backward(operands.context(), {}, operands.scale(), q, k, v, out, log_sum_exp, dout, dq, dk,
                                  dv);
  report_flops(state, 5 * operands.product_flops());
}

BENCHMARK(forward)->Args({2, 256, 4, 2, 32})->Args({8, 256, 4, 2, 32})->Args({1, 2048, 16, 4, 128})->UseRealTime();
BENCHMARK(backward)->Args({2, 256, 4, 2, 32})->Args({8, 256, 4, 2, 32})->Args({1, 2048, 16, 4, 128})->UseRealTime();

}  // namespace
}  // namespace moesaic
