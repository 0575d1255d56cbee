// Routing beside the router on a GPU: what travels with tokens to the ranks that hold their experts, the balancing loss and the
// fake router of published benchmarks. All are small: what counts is their time.
#include "cuda_rates.hpp"
#include "moesaic/kernels/dispatch.hpp"
#include "moesaic/kernels/permutation.hpp"
#include "moesaic/kernels/router.hpp"

namespace moesaic {
namespace {

constexpr std::int64_t tokens = 16384, top_k = 8, experts = 128;

/// Tokens at 8 of 128 experts, and on their way to `ranks` ranks.
struct Dispatch {
  Dispatch(CudaDevice& device, std::int64_t ranks)
      : experts_per_rank(experts / ranks), copies(std::min(top_k, ranks)),
        indices(device.tensor(DType::i32, {tokens, top_k})), weights(device.tensor(DType::f32, {tokens, top_k})),
        destinations(device.tensor(DType::i32, {tokens, copies})), offsets(device.tensor(DType::i64, {ranks + 1})),
        slot_token(device.tensor(DType::i32, {tokens * copies})),
        token_slot(device.tensor(DType::i32, {tokens, copies})),
        slot_indices(device.tensor(DType::i32, {tokens * copies, top_k})),
        slot_weights(device.tensor(DType::f32, {tokens * copies, top_k})) {
    const Tensor positions = sequence(device, tokens, tokens);
    cuda::balanced_routing(device.context(), positions, experts, indices, weights);
    cuda::dispatch_destinations(device.context(), indices, experts_per_rank, destinations);
    cuda::sort_by_key(device.context(), destinations, offsets, slot_token, token_slot);
  }

  std::int64_t experts_per_rank, copies;
  Tensor indices, weights, destinations, offsets, slot_token, token_slot, slot_indices, slot_weights;
};

void dispatch_destinations(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Dispatch x(*device, state.range(0));
  measure(state, *device, bytes(x.indices) + bytes(x.destinations), [&](const OperatorContext& on) {
    cuda::dispatch_destinations(on, x.indices, x.experts_per_rank, x.destinations);
  });
}

void dispatch_routing(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Dispatch x(*device, state.range(0));
  measure(state, *device, 2 * (bytes(x.slot_indices) + bytes(x.slot_weights)), [&](const OperatorContext& on) {
    cuda::dispatch_routing(on, x.indices, x.weights, x.slot_token, x.offsets, x.experts_per_rank, x.slot_indices,
                           x.slot_weights);
  });
}

void dispatch_weights_gradient(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Dispatch x(*device, state.range(0));
  measure(state, *device, bytes(x.indices) + 2 * bytes(x.weights), [&](const OperatorContext& on) {
    cuda::dispatch_weights_gradient(on, x.indices, x.destinations, x.token_slot, x.experts_per_rank, x.slot_weights,
                                    x.weights);
  });
}

void balanced_routing(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Dispatch x(*device, 1);
  const Tensor positions = sequence(*device, tokens, tokens);
  measure(state, *device, bytes(x.indices) + bytes(x.weights),
          [&](const OperatorContext& on) { cuda::balanced_routing(on, positions, experts, x.indices, x.weights); });
}

/// Of 4 sequences.
void balance_loss(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  constexpr std::int64_t groups = 4;
  const Tensor counts = device->tensor(DType::i64, {groups, experts}), loss = device->tensor(DType::f32, {1});
  cuda::fill(device->context(), tokens * top_k / groups / experts, counts);
  const Tensor sums = random(*device, DType::f32, {groups, experts}),
               gradient = device->tensor(DType::f32, {groups, experts});
  measure(state, *device, bytes(counts) + bytes(sums) + bytes(gradient), [&](const OperatorContext& on) {
    cuda::balance_loss(on, counts, sums, tokens / groups, top_k, 1, loss, gradient);
  });
}

void ranks(benchmark::internal::Benchmark* b) { b->ArgNames({"ranks"})->Arg(8)->Arg(64)->UseManualTime(); }

BENCHMARK(dispatch_destinations)->Apply(ranks);
BENCHMARK(dispatch_routing)->Apply(ranks);
BENCHMARK(dispatch_weights_gradient)->Apply(ranks);
BENCHMARK(balanced_routing)->UseManualTime();
BENCHMARK(balance_loss)->UseManualTime();

}  // namespace
}  // namespace moesaic
