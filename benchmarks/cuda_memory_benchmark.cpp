// Rates of the memory-bound operators on a GPU: the bytes that they cannot help but move, over their time.
#include "cuda_rates.hpp"
#include "moesaic/kernels/operators.hpp"

namespace moesaic {

namespace cuda {
RmsNormBackward plain_rms_norm_backward;  // behind rms_norm_backward
}

namespace {

constexpr std::int64_t tokens = 16384, top_k = 8;

/// Slots of the tokens at 8 of `experts` experts, evenly.
struct Routed {
  Routed(CudaDevice& device, std::int64_t experts)
      : indices(device.tensor(DType::i32, {tokens, top_k})), weights(device.tensor(DType::f32, {tokens, top_k})),
        offsets(device.tensor(DType::i64, {experts + 1})), slot_token(device.tensor(DType::i32, {tokens * top_k})),
        token_slot(device.tensor(DType::i32, {tokens, top_k})) {
    const Tensor positions = sequence(device, tokens, tokens);
    cuda::balanced_routing(device.context(), positions, experts, indices, weights);
    cuda::sort_by_key(device.context(), indices, offsets, slot_token, token_slot);
  }

  Tensor indices, weights, offsets, slot_token, token_slot;
};

void copy(benchmark::State& state, DType in_type, DType out_type) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Tensor in = random(*device, in_type, {state.range(0)}), out = device->tensor(out_type, {state.range(0)});
  measure(state, *device, bytes(in) + bytes(out), [&](const OperatorContext& on) { cuda::copy(on, in, out); });
}

void accumulate(benchmark::State& state, DType in_type, DType out_type) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Tensor in = random(*device, in_type, {state.range(0)}), out = random(*device, out_type, {state.range(0)});
  measure(state, *device, bytes(in) + 2 * bytes(out),
          [&](const OperatorContext& on) { cuda::accumulate(on, in, out); });
}

void fill(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Tensor values = device->tensor(DType::f32, {state.range(0)});
  measure(state, *device, bytes(values), [&](const OperatorContext& on) { cuda::fill(on, 0, values); });
}

void fill_normal(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Tensor values = device->tensor(DType::f32, {state.range(0)});
  measure(state, *device, bytes(values), [&](const OperatorContext& on) { cuda::fill_normal(on, 1, 0, 1, values); });
}

void scale(benchmark::State& state, DType type) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Tensor values = random(*device, type, {state.range(0)});
  measure(state, *device, 2 * bytes(values), [&](const OperatorContext& on) { cuda::scale(on, -1, values); });
}

void sum(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Tensor values = random(*device, DType::f32, {state.range(0)}), result = device->tensor(DType::f64, {1});
  measure(state, *device, bytes(values), [&](const OperatorContext& on) { cuda::sum(on, values, result); });
}

void sum_of_squares(benchmark::State& state, DType type) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Tensor values = random(*device, type, {state.range(0)}), result = device->tensor(DType::f64, {1});
  measure(state, *device, bytes(values), [&](const OperatorContext& on) { cuda::sum_of_squares(on, values, result); });
}

void rotary(benchmark::State& state, RotaryPairs pairs) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Tensor x = device->random({tokens, state.range(0), state.range(1)});
  const Tensor cosine = random(*device, DType::f32, {4096, state.range(1) / 2});
  const Tensor positions = sequence(*device, tokens, 4096);
  measure(state, *device, 2 * bytes(x), [&](const OperatorContext& on) {
    cuda::rotary(on, x, cosine, cosine, positions, pairs, RotaryDirection::forward);
  });
}

struct Swiglu {
  Swiglu(CudaDevice& device, const benchmark::State& state)
      : gate_up(device.random({state.range(0), 2 * state.range(1)})),
        gradient(device.tensor(DType::bf16, {state.range(0), 2 * state.range(1)})),
        y(device.random({state.range(0), state.range(1)})) {}

  Tensor gate_up, gradient, y;
};

void swiglu_forward(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Swiglu x(*device, state);
  measure(state, *device, bytes(x.gate_up) + bytes(x.y),
          [&](const OperatorContext& on) { cuda::swiglu_forward(on, {}, x.gate_up, x.y); });
}

void swiglu_backward(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Swiglu x(*device, state);
  measure(state, *device, 2 * bytes(x.gate_up) + bytes(x.y),
          [&](const OperatorContext& on) { cuda::swiglu_backward(on, {}, x.gate_up, x.y, x.gradient); });
}

struct Router {
  Router(CudaDevice& device, const benchmark::State& state)
      : routed(device, state.range(0)), logits(random(device, DType::f32, {tokens, state.range(0)})),
        probabilities(device.tensor(DType::f32, {tokens, state.range(0)})),
        counts(device.tensor(DType::i64, {1, state.range(0)})), sums(device.tensor(DType::f32, {1, state.range(0)})) {}

  Routed routed;
  Tensor logits, probabilities, counts, sums;
};

void router_forward(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Router x(*device, state);
  measure(state, *device, 2 * bytes(x.logits), [&](const OperatorContext& on) {
    cuda::router_forward(on, {.top_k = top_k}, x.logits, {}, x.probabilities, x.routed.indices, x.routed.weights, {},
                         {});
  });
}

/// The same with its statistics in the same pass.
void router_forward_statistics(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Router x(*device, state);
  measure(state, *device, 2 * bytes(x.logits), [&](const OperatorContext& on) {
    cuda::router_forward(on, {.top_k = top_k}, x.logits, {}, x.probabilities, x.routed.indices, x.routed.weights,
                         x.counts, x.sums);
  });
}

void router_backward(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Router x(*device, state);
  measure(state, *device, 2 * bytes(x.logits), [&](const OperatorContext& on) {
    cuda::router_backward(on, {.top_k = top_k}, x.logits, x.routed.indices, x.routed.weights, x.sums, x.probabilities);
  });
}

void router_statistics(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Router x(*device, state);
  measure(state, *device, bytes(x.logits), [&](const OperatorContext& on) {
    cuda::router_statistics(on, RouterScores::softmax, x.logits, x.routed.indices, x.counts, x.sums);
  });
}

void sort_by_key(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Routed x(*device, state.range(0));
  measure(state, *device, bytes(x.indices) + bytes(x.slot_token) + bytes(x.token_slot),
          [&](const OperatorContext& on) { cuda::sort_by_key(on, x.indices, x.offsets, x.slot_token, x.token_slot); });
}

struct TokenRows {
  TokenRows(CudaDevice& device, const benchmark::State& state)
      : routed(device, 128), of_tokens(device.random({tokens, state.range(0)})),
        of_slots(device.random({tokens * top_k, state.range(0)})) {}

  Routed routed;
  Tensor of_tokens, of_slots;
};

void gather_rows(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const TokenRows x(*device, state);
  measure(state, *device, bytes(x.of_tokens) + bytes(x.of_slots),
          [&](const OperatorContext& on) { cuda::gather_rows(on, x.of_tokens, x.routed.slot_token, x.of_slots); });
}

void combine_rows(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const TokenRows x(*device, state);
  measure(state, *device, bytes(x.of_tokens) + bytes(x.of_slots), [&](const OperatorContext& on) {
    cuda::combine_rows(on, x.of_slots, x.routed.token_slot, x.routed.weights, x.of_tokens);
  });
}

/// Rows of the residual stream: their norms, forward and backward.
struct Norm {
  Norm(CudaDevice& device, Extents extents)
      : x(device.random(extents)), delta(device.random(extents)), y(device.random(extents)),
        weight(device.random({extents[extents.rank() - 1]})),
        inverse_rms(random(device, DType::f32, {extents.size() / extents[extents.rank() - 1]})),
        weight_gradient(device.tensor(DType::f32, weight.view().extents())) {}

  Tensor x, delta, y, weight, inverse_rms, weight_gradient;
};

/// fused: sum and norm in one pass; the bytes are those of that.
void rms_norm_residual(benchmark::State& state, bool fused) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Norm n(*device, {tokens, state.range(0)});
  measure(state, *device, 4 * bytes(n.x), [&](const OperatorContext& on) {
    if (fused) return cuda::rms_norm_residual_forward(on, n.x, n.weight, 1e-6, n.delta, n.y, n.inverse_rms);
    cuda::accumulate(on, n.x, n.delta);
    cuda::rms_norm_forward(on, n.delta, n.weight, 1e-6, n.y, n.inverse_rms);
  });
}

/// Adds to x's gradient.
void rms_norm_backward(benchmark::State& state, RmsNormBackward* backward) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Norm n(*device, {tokens, state.range(0)});
  measure(state, *device, 4 * bytes(n.x), [&](const OperatorContext& on) {
    backward(on, n.x, n.weight, n.inverse_rms, n.delta, 1, n.y, n.weight_gradient);
  });
}

/// Heads of 128 within the rows of a projection to queries, keys and values.
struct Heads {
  Heads(CudaDevice& device, std::int64_t heads)
      : norm(device, {tokens, heads * 128}), rows(device.random({tokens, (heads + 8) * 128})),
        x(rows.view().slice(1, 0, heads * 128).split_last(heads, 128)), y(norm.x.view().split_last(heads, 128)),
        weight(device.random({128})), inverse_rms(random(device, DType::f32, {tokens, heads})),
        weight_gradient(device.tensor(DType::f32, {128})), table(random(device, DType::f32, {4096, 64})),
        positions(sequence(device, tokens, 4096)) {}

  Norm norm;
  Tensor rows;
  View x, y;
  Tensor weight, inverse_rms, weight_gradient, table, positions;
};

void head_norm_rotary_forward(benchmark::State& state, bool fused) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Heads h(*device, state.range(0));
  measure(state, *device, 2 * static_cast<double>(h.y.bytes()), [&](const OperatorContext& on) {
    if (fused)
      return cuda::head_norm_rotary_forward(on, h.x, h.weight, 1e-6, h.table, h.table, h.positions, h.y, h.inverse_rms);
    cuda::rms_norm_forward(on, h.x, h.weight, 1e-6, h.y, h.inverse_rms);
    cuda::rotary(on, h.y, h.table, h.table, h.positions, RotaryPairs::halves, RotaryDirection::forward);
  });
}

void head_norm_rotary_backward(benchmark::State& state, bool fused) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Heads h(*device, state.range(0));
  measure(state, *device, 3 * static_cast<double>(h.y.bytes()), [&](const OperatorContext& on) {
    if (fused)
      return cuda::head_norm_rotary_backward(on, h.x, h.weight, h.inverse_rms, h.table, h.table, h.positions, h.y,
                                             h.weight_gradient);
    cuda::rotary(on, h.y, h.table, h.table, h.positions, RotaryPairs::halves, RotaryDirection::backward);
    cuda::rms_norm_backward(on, h.x, h.weight, h.inverse_rms, h.y, 0, h.y, h.weight_gradient);
  });
}

/// In place, as the experts do it: a slot's row read and written.
void combine_rows_backward(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const TokenRows x(*device, state);
  const Tensor weights_gradient = device->tensor(DType::f32, {tokens, top_k});
  measure(state, *device, bytes(x.of_tokens) + 2 * bytes(x.of_slots), [&](const OperatorContext& on) {
    cuda::combine_rows_backward(on, x.of_slots, x.routed.token_slot, x.routed.weights, x.of_tokens, x.of_slots,
                                weights_gradient);
  });
}

/// Each token's own row of the table.
void embedding_forward(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const std::int64_t width = state.range(0);
  const Tensor table = device->random({151936, width}), y = device->tensor(DType::bf16, {tokens, width});
  const Tensor ids = sequence(*device, tokens, 151936, 7919);
  measure(state, *device, 2 * bytes(y), [&](const OperatorContext& on) { cuda::embedding_forward(on, table, ids, y); });
}

/// `distinct` ids among the tokens: each of their rows of the table is read and written once.
void embedding_backward(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  constexpr std::int64_t vocabulary = 151936;
  const std::int64_t distinct = state.range(0), hidden = state.range(1);
  const Tensor ids = sequence(*device, tokens, distinct, 7919), gradient = device->random({tokens, hidden});
  const Tensor table_gradient = device->tensor(DType::f32, {vocabulary, hidden});
  const double rows = static_cast<double>(std::min(distinct, tokens)) * static_cast<double>(hidden);
  measure(state, *device, bytes(gradient) + 8 * rows,
          [&](const OperatorContext& on) { cuda::embedding_backward(on, ids, gradient, table_gradient); });
}

struct Logits {
  Logits(CudaDevice& device, const benchmark::State& state)
      : values(device.random({state.range(0), state.range(1)})),
        labels(sequence(device, state.range(0), state.range(1))), losses(device.tensor(DType::f32, {state.range(0)})),
        log_sum_exp(device.tensor(DType::f32, {state.range(0)})) {}

  Tensor values, labels, losses, log_sum_exp;
};

void cross_entropy_forward(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Logits x(*device, state);
  measure(state, *device, bytes(x.values), [&](const OperatorContext& on) {
    cuda::cross_entropy_forward(on, x.values, x.labels, x.losses, x.log_sum_exp);
  });
}

void cross_entropy_backward(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Logits x(*device, state);
  cuda::cross_entropy_forward(device->context(), x.values, x.labels, x.losses, x.log_sum_exp);
  measure(state, *device, 2 * bytes(x.values),
          [&](const OperatorContext& on) { cuda::cross_entropy_backward(on, x.values, x.labels, x.log_sum_exp, 1); });
}

void add_bias(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const TokenRows x(*device, state);
  const Tensor bias = device->random({128, state.range(0)});
  measure(state, *device, 2 * bytes(x.of_slots),
          [&](const OperatorContext& on) { cuda::add_bias(on, bias, x.routed.offsets, x.of_slots); });
}

void bias_gradient(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const TokenRows x(*device, state);
  const Tensor gradient = random(*device, DType::f32, {128, state.range(0)});
  measure(state, *device, bytes(x.of_slots),
          [&](const OperatorContext& on) { cuda::bias_gradient(on, x.of_slots, x.routed.offsets, gradient); });
}

using Benchmark = benchmark::internal::Benchmark;
void flat(Benchmark* b) { b->Arg(1 << 28)->UseManualTime(); }
void hidden(Benchmark* b) { b->ArgNames({"hidden"})->Arg(2048)->Arg(2880)->UseManualTime(); }
void heads(Benchmark* b) { b->ArgNames({"heads"})->Arg(32)->Arg(4)->UseManualTime(); }
void router(Benchmark* b) { b->ArgNames({"experts"})->Arg(128)->Arg(512)->UseManualTime(); }
void swiglu(Benchmark* b) { b->ArgNames({"rows", "width"})->Args({131072, 768})->Args({16384, 6144})->UseManualTime(); }
void logits(Benchmark* b) {
  b->ArgNames({"tokens", "vocabulary"})->Args({16384, 16384})->Args({4096, 151936})->UseManualTime();
}

BENCHMARK_CAPTURE(copy, bf16, DType::bf16, DType::bf16)->Apply(flat);
BENCHMARK_CAPTURE(copy, f32_to_bf16, DType::f32, DType::bf16)->Apply(flat);
BENCHMARK_CAPTURE(accumulate, f32, DType::f32, DType::f32)->Apply(flat);
BENCHMARK_CAPTURE(accumulate, bf16, DType::bf16, DType::bf16)->Apply(flat);
BENCHMARK(fill)->Apply(flat);
BENCHMARK(fill_normal)->Apply(flat);
BENCHMARK_CAPTURE(scale, f32, DType::f32)->Apply(flat);
BENCHMARK_CAPTURE(scale, bf16, DType::bf16)->Apply(flat);
BENCHMARK(sum)->Apply(flat);
BENCHMARK_CAPTURE(sum_of_squares, f32, DType::f32)->Apply(flat);
BENCHMARK_CAPTURE(sum_of_squares, bf16, DType::bf16)->Apply(flat);
BENCHMARK_CAPTURE(rotary, halves, RotaryPairs::halves)->Args({32, 128})->UseManualTime();
BENCHMARK_CAPTURE(rotary, interleaved, RotaryPairs::interleaved)->Args({128, 64})->UseManualTime();
BENCHMARK_CAPTURE(rms_norm_residual, fused, true)->Apply(hidden);
BENCHMARK_CAPTURE(rms_norm_residual, apart, false)->Apply(hidden);
BENCHMARK_CAPTURE(rms_norm_backward, one_pass, cuda::rms_norm_backward)->Apply(hidden);
BENCHMARK_CAPTURE(rms_norm_backward, plain, cuda::plain_rms_norm_backward)->Apply(hidden);
BENCHMARK_CAPTURE(head_norm_rotary_forward, fused, true)->Apply(heads);
BENCHMARK_CAPTURE(head_norm_rotary_forward, apart, false)->Apply(heads);
BENCHMARK_CAPTURE(head_norm_rotary_backward, fused, true)->Apply(heads);
BENCHMARK_CAPTURE(head_norm_rotary_backward, apart, false)->Apply(heads);
BENCHMARK(swiglu_forward)->Apply(swiglu);
BENCHMARK(swiglu_backward)->Apply(swiglu);
BENCHMARK(router_forward)->Apply(router);
BENCHMARK(router_forward_statistics)->Apply(router);
BENCHMARK(router_backward)->Apply(router);
BENCHMARK(router_statistics)->Apply(router);
BENCHMARK(sort_by_key)->Apply(router);
BENCHMARK(gather_rows)->Apply(hidden);
BENCHMARK(combine_rows)->Apply(hidden);
BENCHMARK(combine_rows_backward)->Apply(hidden);
BENCHMARK(embedding_forward)->Apply(hidden);
BENCHMARK(embedding_backward)->Args({151936, 2048})->Args({100, 2048})->Args({1, 2048})->UseManualTime();
BENCHMARK(cross_entropy_forward)->Apply(logits);
BENCHMARK(cross_entropy_backward)->Apply(logits);
BENCHMARK(add_bias)->Apply(hidden);
BENCHMARK(bias_gradient)->Apply(hidden);

}  // namespace
}  // namespace moesaic
