// The fused kernels of experts on a GPU beside the operators that they stand for, at the shapes of SonicMoE.
#include "cuda_device.hpp"
#include "moesaic/kernels/elementwise.hpp"
#include "moesaic/kernels/experts.hpp"
#include "moesaic/kernels/permutation.hpp"

#include <cmath>

namespace moesaic {
namespace {

/// T tokens of width d, each of which goes to K random experts of E.
struct Slots {
  Slots(CudaDevice& device, const benchmark::State& state)
      : tokens(state.range(0)), hidden(state.range(1)), width(state.range(2)), experts(state.range(3)),
        top_k(state.range(4)), offsets(device.tensor(DType::i64, {experts + 1})),
        slot_token(device.tensor(DType::i32, {tokens * top_k})), token_slot(device.tensor(DType::i32, {tokens, top_k})),
        weights(device.tensor(DType::f32, {tokens, top_k})),
        weights_gradient(device.tensor(DType::f32, {tokens, top_k})), x(device.random({tokens, hidden})),
        gate_up(device.random({tokens * top_k, 2 * width})),
        activated(device.tensor(DType::bf16, {tokens * top_k, width})) {
    const Tensor keys = device.integers(random_experts());
    cuda::sort_by_key(device.context(), keys.view().reshape({tokens, top_k}), offsets, slot_token, token_slot);
    cuda::fill(device.context(), 1.0 / static_cast<double>(top_k), weights);
  }

  SlotRouting routing() const { return {offsets, slot_token, token_slot, weights}; }
  double flops() const { return 2.0 * static_cast<double>(tokens * top_k) * static_cast<double>(hidden * width); }

  std::int64_t tokens, hidden, width, experts, top_k;
  Tensor offsets, slot_token, token_slot, weights, weights_gradient, x, gate_up, activated;

 private:
  /// Different ones for one token.
  std::vector<std::int32_t> random_experts() const {
    std::mt19937 generator(2);
    std::vector<std::int32_t> all(static_cast<std::size_t>(experts)), keys;
    for (std::size_t e = 0; e < all.size(); ++e) all[e] = static_cast<std::int32_t>(e);
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::size_t j = 0; j < static_cast<std::size_t>(top_k); ++j) {
        std::swap(all[j], all[j + generator() % (all.size() - j)]);
        keys.push_back(all[j]);
      }
    }
    return keys;
  }
};

void up(benchmark::State& state, ExpertUp* function) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Slots s(*device, state);
  const Tensor weights = device->random({s.experts, 2 * s.width, s.hidden});
  cuda::scale(device->context(), 1 / std::sqrt(static_cast<double>(s.hidden)), weights);  // gate and up near 1
  device->time(state, [&] {
    function(device->context(), {}, s.x, s.slot_token, weights, {}, s.offsets, s.gate_up, s.activated);
  });
  report_flops(state, 2 * s.flops());
}

void down_backward(benchmark::State& state, ExpertDownBackward* function) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Slots s(*device, state);
  const Tensor weights = device->random({s.experts, s.hidden, s.width}),
               gate_up = device->random(s.gate_up.view().extents());
  const auto restore = [&] { cuda::copy(device->context(), s.gate_up, gate_up); };
  device->time(state, restore, [&] {
    function(device->context(), {}, s.routing(), s.x, weights, {}, gate_up, s.activated, s.weights_gradient);
  });
  report_flops(state, s.flops());
}

/// Of the up projection (its input has tokens' rows, which are copied first: expert_gradient_fuses) or the down projection
/// (its output's gradient has).
void weight_gradient(benchmark::State& state, ExpertWeightGradient* function, TokenSide side, double beta) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Slots s(*device, state);
  const bool up = side == TokenSide::in;
  const Tensor gradient = device->tensor(
      DType::f32, up ? Extents{s.experts, 2 * s.width, s.hidden} : Extents{s.experts, s.hidden, s.width});
  cuda::fill(device->context(), 0, gradient);
  if (!up) cuda::copy(device->context(), s.gate_up.view().slice(1, 0, s.width), s.activated);
  device->time(state, [&] {
    function(device->context(), side, up ? s.gate_up : s.x, up ? s.x : s.activated, s.slot_token, s.offsets, beta,
             gradient);
  });
  report_flops(state, (up ? 2 : 1) * s.flops());
}

void shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"T", "d", "n", "E", "K"})->UseManualTime()->Iterations(1);
  benchmark->Args({32768, 2048, 768, 128, 8})->Args({16384, 2048, 768, 128, 8});
  benchmark->Args({40960, 1536, 256, 128, 8})->Args({32768, 4096, 512, 128, 8})->Args({32768, 4096, 2048, 64, 4});
}

BENCHMARK_CAPTURE(up, plain, cuda::plain_expert_up)->Apply(shapes);
BENCHMARK_CAPTURE(up, fused, cuda::expert_up)->Apply(shapes);
BENCHMARK_CAPTURE(down_backward, plain, cuda::plain_expert_down_backward)->Apply(shapes);
BENCHMARK_CAPTURE(down_backward, fused, cuda::expert_down_backward)->Apply(shapes);
BENCHMARK_CAPTURE(weight_gradient, up, cuda::expert_weight_gradient, TokenSide::in, 0)->Apply(shapes);
BENCHMARK_CAPTURE(weight_gradient, up_adding, cuda::expert_weight_gradient, TokenSide::in, 1)->Apply(shapes);
BENCHMARK_CAPTURE(weight_gradient, plain_down, cuda::plain_expert_weight_gradient, TokenSide::output_gradient, 0)
    ->Apply(shapes);
BENCHMARK_CAPTURE(weight_gradient, fused_down, cuda::expert_weight_gradient, TokenSide::output_gradient, 0)
    ->Apply(shapes);
BENCHMARK_CAPTURE(weight_gradient, fused_down_adding, cuda::expert_weight_gradient, TokenSide::output_gradient, 1)
    ->Apply(shapes);

}  // namespace
}  // namespace moesaic
