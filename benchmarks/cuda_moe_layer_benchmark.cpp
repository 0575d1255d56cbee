// A whole MoE layer on a GPU: router, sorting, experts, combination, at the shapes of SonicMoE (arXiv 2512.14080). FLOPs are
// 6 T d n K forward and 12 T d n K backward, weight gradients (f32, or bf16 where named) overwritten, for T tokens of width
// d that go to K experts of width n. `plain` runs one operator
// after the other where `fused` has one kernel.
#include "cuda_device.hpp"
#include "moesaic/layers/moe.hpp"

namespace moesaic {
namespace {

enum class Experts : std::uint8_t { plain, fused };

const Operators& table_of(Experts experts) {
  static const Operators plain = [] {
    Operators table = operators(DeviceKind::cuda);
    table.expert_up = cuda::plain_expert_up;
    table.expert_down_backward = cuda::plain_expert_down_backward;
    table.expert_weight_gradient = cuda::plain_expert_weight_gradient;
    return table;
  }();
  return experts == Experts::plain ? plain : operators(DeviceKind::cuda);
}

/// A layer with random weights and its input.
class Layer {
 public:
  Layer(CudaDevice& device, const benchmark::State& state, Experts experts, DType gradients)
      : spec_{.hidden = state.range(1), .width = state.range(2), .experts = state.range(3), .top_k = state.range(4)},
        load_(device.tensor(DType::i64, {spec_.experts})), loss_(device.tensor(DType::f64, {1})),
        layer_(spec_, "moe", local_, nullptr, {{}, load_, loss_}), ctx_{.ops = &table_of(experts),
                                                                        .on = device.context(),
                                                                        .type = DType::bf16,
                                                                        .gradients_begin = true,
                                                                        .dense_gradients_begin = true},
        tokens_(state.range(0)), x_(device.random({tokens_, spec_.hidden})),
        y_gradient_(device.random({tokens_, spec_.hidden})) {
    batch_.sequences = 1;
    batch_.length = tokens_;
    for (const ParameterSpec& parameter : layer_.dense_parameters()) add(device, parameter, gradients, dense_);
    for (const ParameterSpec& parameter : layer_.expert_parameters()) add(device, parameter, gradients, experts_);
  }

  void forward() { layer_.forward(ctx_, {dense_.weights, experts_.weights}, batch_, x_, state_); }
  void backward() {
    layer_.backward_input(ctx_, {dense_.weights, experts_.weights}, y_gradient_, *state_);
    layer_.backward_weight(ctx_, *state_, {dense_.gradients, experts_.gradients});
    state_.reset();
  }

  double flops() const {
    return 6.0 * static_cast<double>(tokens_ * spec_.top_k) * static_cast<double>(spec_.hidden * spec_.width);
  }

 private:
  struct Parameters {
    std::vector<Tensor> memory;
    std::vector<View> weights, gradients;
  };

  /// Weights small enough for activations to stay near 1.
  void add(CudaDevice& device, const ParameterSpec& parameter, DType gradients, Parameters& to) {
    const bool router = parameter.shape.rank() == 2;
    to.memory.push_back(device.random(parameter.shape));
    to.weights.push_back(to.memory.back());
    ctx_.ops->scale(ctx_.on, 0.02, to.weights.back());
    to.memory.push_back(device.tensor(router ? DType::f32 : gradients, parameter.shape));
    to.gradients.push_back(to.memory.back());
    ctx_.ops->fill(ctx_.on, 0, to.gradients.back());
  }

  MoeSpec spec_;
  Tensor load_, loss_;
  LocalExperts local_;
  MoeLayer layer_;
  LayerContext ctx_;
  std::int64_t tokens_;
  Tensor x_, y_gradient_;
  MicroBatch batch_;
  Parameters dense_, experts_;
  std::unique_ptr<FeedForwardState> state_;
};

void forward(benchmark::State& state, Experts experts) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  Layer layer(*device, state, experts, DType::f32);
  device->time(state, [&] { layer.forward(); });
  report_flops(state, layer.flops());
}

void backward(benchmark::State& state, Experts experts, DType gradients) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  Layer layer(*device, state, experts, gradients);
  device->time(
      state, [&] { layer.forward(); }, [&] { layer.backward(); });
  report_flops(state, 2 * layer.flops());
}

void shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"T", "d", "n", "E", "K"})->UseManualTime()->Iterations(1);
  benchmark->Args({32768, 2048, 768, 128, 8})
      ->Args({16384, 2048, 768, 128, 8});  // Qwen3-30B; the latter as in training
  benchmark->Args({40960, 1536, 256, 128, 8})->Args({40960, 1536, 512, 64, 4})->Args({24576, 1536, 1024, 32, 2});
  benchmark->Args({32768, 4096, 256, 256, 16})->Args({32768, 4096, 512, 128, 8});
  benchmark->Args({32768, 4096, 1024, 128, 8})->Args({32768, 4096, 2048, 64, 4});
}

BENCHMARK_CAPTURE(forward, plain, Experts::plain)->Apply(shapes);
BENCHMARK_CAPTURE(forward, fused, Experts::fused)->Apply(shapes);
BENCHMARK_CAPTURE(backward, plain, Experts::plain, DType::f32)->Apply(shapes);
BENCHMARK_CAPTURE(backward, fused, Experts::fused, DType::f32)->Apply(shapes);
BENCHMARK_CAPTURE(backward, fused_bf16_gradients, Experts::fused, DType::bf16)->Apply(shapes);

}  // namespace
}  // namespace moesaic
