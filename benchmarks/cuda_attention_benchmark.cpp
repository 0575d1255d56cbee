// Rates of attention on a GPU, at the shapes of published models. FLOPs count visible pairs
// alone; documents are of one length, of which that of a sequence is a multiple.
#include "cuda_device.hpp"
#include "moesaic/kernels/attention.hpp"

#include <cmath>

namespace moesaic {
namespace {

struct Operands {
  Operands(CudaDevice& device, const benchmark::State& state)
      : batch(state.range(0)), length(state.range(1)), heads(state.range(2)), key_heads(state.range(3)),
        width(state.range(4)), value_width(state.range(5)), window(state.range(6)), document(state.range(7)),
        q(device.random({batch, length, heads, width})), k(device.random({batch, length, key_heads, width})),
        v(device.random({batch, length, key_heads, value_width})),
        out(device.random({batch, length, heads, value_width})),
        log_sum_exp(device.tensor(DType::f32, {batch, heads, length})) {
    if (document == 0) return;
    std::vector<std::int32_t> numbers(static_cast<std::size_t>(batch * length));
    for (std::size_t i = 0; i < numbers.size(); ++i)
      numbers[i] = static_cast<std::int32_t>(static_cast<std::int64_t>(i) / document);
    documents = device.integers(numbers);
  }

  double scale() const { return 1 / std::sqrt(static_cast<double>(width)); }
  AttentionMask mask() const {
    AttentionMask result{.window = window};
    if (document > 0) result.query_documents = result.key_documents = documents.view().reshape({batch, length});
    return result;
  }
  double forward_flops() const {
    const auto s = static_cast<double>(length), w = static_cast<double>(window), d = static_cast<double>(document);
    const double pairs = document > 0 ? s * d / 2 : window == 0 ? s * s / 2 : s * w - w * w / 2;
    return 2.0 * static_cast<double>(batch * heads * (width + value_width)) * pairs;
  }

  std::int64_t batch, length, heads, key_heads, width, value_width, window, document;
  Tensor q, k, v, out, log_sum_exp, documents;
};

void forward(benchmark::State& state) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Operands x(*device, state);
  device->time(state, [&] {
    cuda::attention_forward(device->context(), x.mask(), x.scale(), x.q, x.k, x.v, x.out, x.log_sum_exp);
  });
  report_flops(state, x.forward_flops());
}

void backward(benchmark::State& state, bool deterministic) {
  CudaDevice* device = cuda_device(state);
  if (device == nullptr) return;
  const Operands x(*device, state);
  const Tensor dout = device->random(x.out.view().extents()), dq = device->tensor(DType::bf16, x.q.view().extents()),
               dk = device->tensor(DType::bf16, x.k.view().extents()),
               dv = device->tensor(DType::bf16, x.v.view().extents());
  const OperatorContext context = device->context(deterministic);
  cuda::attention_forward(context, x.mask(), x.scale(), x.q, x.k, x.v, x.out, x.log_sum_exp);
  device->time(state, [&] {
    cuda::attention_backward(context, x.mask(), x.scale(), x.q, x.k, x.v, x.out, x.log_sum_exp, dout, dq, dk, dv);
  });
  report_flops(state, 2.5 * x.forward_flops());
}

void shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"batch", "length", "heads", "key_heads", "width", "value_width", "window", "document"});
  benchmark->UseManualTime()->Iterations(1);
  benchmark->Args({4, 4096, 32, 4, 128, 128, 0, 0})->Args({1, 32768, 32, 4, 128, 128, 0, 0});  // Qwen3
  benchmark->Args({4, 4096, 32, 4, 128, 128, 0, 1024});                                        // packed documents
  benchmark->Args({2, 4096, 64, 8, 64, 64, 0, 0})->Args({2, 4096, 64, 8, 64, 64, 128, 0});     // GPT-OSS
  benchmark->Args({1, 4096, 128, 128, 192, 128, 0, 0});                                        // DeepSeek-V3
}

BENCHMARK(forward)->Apply(shapes);
BENCHMARK_CAPTURE(backward, deterministic, true)->Apply(shapes);
BENCHMARK_CAPTURE(backward, any_order, false)->Apply(shapes);

}  // namespace
}  // namespace moesaic
