// What stands around attention on a GPU: merging the blocks of a ring, GPT-OSS's sinks, DeepSeek-V3's joined keys. Rates are
// of the bytes that these cannot help but move.
#include "cuda_rates.hpp"
#include "moesaic/kernels/attention_merge.hpp"
#include "moesaic/kernels/attention_sink.hpp"
#include "moesaic/kernels/joined_keys.hpp"

namespace moesaic {
namespace {

constexpr std::int64_t batch = 4, sequence_length = 4096;

/// What attention leaves: [batch, queries, heads, width] and the log-sum-exp of each query and head.
struct Attended {
  Attended(CudaDevice& device, const benchmark::State& state, DType type)
      : out(random(device, type, {batch, sequence_length, state.range(0), state.range(1)})),
        log_sum_exp(random(device, DType::f32, {batch, state.range(0), sequence_length})) {}

  Tensor out, log_sum_exp;
};

void attention_merge(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Attended whole(*device, state, DType::f32), more(*device, state, DType::bf16);
  measure(state, *device, bytes(more.out) + 2 * bytes(whole.out), [&](const OperatorContext& on) {
    cuda::attention_merge(on, more.out, more.log_sum_exp, whole.out, whole.log_sum_exp);
  });
}

void attention_sink(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Attended attended(*device, state, DType::bf16);
  const Tensor sinks = device->random({state.range(0)});
  measure(state, *device, 2 * bytes(attended.out),
          [&](const OperatorContext& on) { cuda::attention_sink(on, sinks, attended.out, attended.log_sum_exp); });
}

void attention_sink_backward(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Attended attended(*device, state, DType::bf16), gradient(*device, state, DType::bf16);
  const Tensor sinks = device->random({state.range(0)}), sinks_gradient = random(*device, DType::f32, {state.range(0)});
  measure(state, *device, 2 * bytes(attended.out), [&](const OperatorContext& on) {
    cuda::attention_sink_backward(on, sinks, attended.out, attended.log_sum_exp, gradient.out, sinks_gradient);
  });
}

/// DeepSeek-V3's: 128 of each head's own and 64 shared.
struct Keys {
  explicit Keys(CudaDevice& device)
      : own(device.random({4096, 128, 128})), shared(device.random({4096, 64})),
        joined(device.random({4096, 128, 192})) {}
  double moved() const { return bytes(own) + bytes(shared) + bytes(joined); }

  Tensor own, shared, joined;
};

void join_keys(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Keys keys(*device);
  measure(state, *device, keys.moved(),
          [&](const OperatorContext& on) { cuda::join_keys(on, keys.own, keys.shared, keys.joined); });
}

void join_keys_backward(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Keys keys(*device);
  measure(state, *device, keys.moved(),
          [&](const OperatorContext& on) { cuda::join_keys_backward(on, keys.joined, keys.own, keys.shared); });
}

void heads(benchmark::internal::Benchmark* b) {
  b->ArgNames({"heads", "width"})->Args({32, 128})->Args({64, 64})->UseManualTime();
}

BENCHMARK(attention_merge)->Apply(heads);
BENCHMARK(attention_sink)->Apply(heads);
BENCHMARK(attention_sink_backward)->Apply(heads);
BENCHMARK(join_keys)->UseManualTime();
BENCHMARK(join_keys_backward)->UseManualTime();

}  // namespace
}  // namespace moesaic
