#include "moesaic/kernels/cross_entropy.hpp"

#include <benchmark/benchmark.h>

#include <random>
#include <vector>

namespace moesaic {
namespace {

/// tokens, vocabulary.
struct Logits {
  explicit Logits(const benchmark::State& state)
      : tokens(state.range(0)), vocabulary(state.range(1)), logits(static_cast<std::size_t>(tokens * vocabulary)),
        losses(static_cast<std::size_t>(tokens)), log_sum_exp(losses.size(), 10.0f), labels(losses.size()) {
    std::mt19937 generator(1);
    std::normal_distribution<float> normal;
    for (float& logit : logits) logit = normal(generator);
  }

  View logit_view() { return host_view(logits.data(), {tokens, vocabulary}); }
  View label_view() { return host_view(labels.data(), {tokens}); }
  View of_tokens(std::vector<float>& values) const { return host_view(values.data(), {tokens}); }

  std::int64_t tokens, vocabulary;
  std::vector<float> logits, losses, log_sum_exp;
  std::vector<std::int32_t> labels;
};

void cross_entropy_forward(benchmark::State& state) {
  Logits l(state);
  for (auto _ : state) {
    reference::cross_entropy_forward({}, l.logit_view(), l.label_view(), l.of_tokens(l.losses),
                                     l.of_tokens(l.log_sum_exp));
  }
  state.SetBytesProcessed(state.iterations() * l.tokens * l.vocabulary * 4);
}

void cross_entropy_backward(benchmark::State& state) {
  Logits l(state);
  for (auto _ : state) {
    reference::cross_entropy_backward({}, l.logit_view(), l.label_view(), l.of_tokens(l.log_sum_exp), 1);
  }
  state.SetBytesProcessed(state.iterations() * l.tokens * l.vocabulary * 8);
}

void sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"tokens", "vocabulary"})->UseRealTime();
  benchmark->Args({2048, 256})->Args({256, 151936});
}

BENCHMARK(cross_entropy_forward)->Apply(sizes);
BENCHMARK(cross_entropy_backward)->Apply(sizes);

}  // namespace
}  // namespace moesaic
