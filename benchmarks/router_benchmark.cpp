#include "moesaic/kernels/router.hpp"

#include <benchmark/benchmark.h>

#include <random>
#include <vector>

namespace moesaic {
namespace {

/// tokens, experts, top_k.
struct Routing {
  explicit Routing(const benchmark::State& state)
      : tokens(state.range(0)), experts(state.range(1)), options{.top_k = state.range(2)},
        logits(static_cast<std::size_t>(tokens * experts)), probabilities(logits.size()), gradient(logits.size()),
        weights(static_cast<std::size_t>(tokens * options.top_k)), indices(weights.size()) {
    std::mt19937 generator(1);
    std::normal_distribution<float> normal;
    for (float& logit : logits) logit = normal(generator);
  }

  View matrix(std::vector<float>& values) const { return host_view(values.data(), {tokens, experts}); }
  View chosen(std::vector<float>& values) const { return host_view(values.data(), {tokens, options.top_k}); }
  View index_view() { return host_view(indices.data(), {tokens, options.top_k}); }
  void forward() {
    reference::router_forward({}, options, matrix(logits), {}, matrix(probabilities), index_view(), chosen(weights), {},
                              {});
  }

  std::int64_t tokens, experts;
  RouterOptions options;
  std::vector<float> logits, probabilities, gradient, weights;
  std::vector<std::int32_t> indices;
};

void router_forward(benchmark::State& state) {
  Routing routing(state);
  for (auto _ : state) routing.forward();
  state.SetItemsProcessed(state.iterations() * routing.tokens);
}

void router_backward(benchmark::State& state) {
  Routing routing(state);
  routing.forward();
  for (auto _ : state) {
    reference::router_backward({}, routing.options, routing.matrix(routing.probabilities), routing.index_view(),
                               routing.chosen(routing.weights), {}, routing.matrix(routing.gradient));
  }
  state.SetItemsProcessed(state.iterations() * routing.tokens);
}

void router_statistics(benchmark::State& state) {
  Routing routing(state);
  routing.forward();
  std::vector<std::int64_t> counts(static_cast<std::size_t>(routing.experts));
  std::vector<float> sums(counts.size());
  for (auto _ : state) {
    reference::router_statistics({}, RouterScores::softmax, routing.matrix(routing.probabilities), routing.index_view(),
                                 host_view(counts.data(), {1, routing.experts}),
                                 host_view(sums.data(), {1, routing.experts}));
  }
  state.SetItemsProcessed(state.iterations() * routing.tokens);
}

void sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"tokens", "experts", "top_k"})->UseRealTime();
  benchmark->Args({2048, 8, 2})->Args({4096, 128, 8})->Args({4096, 384, 8});
}

BENCHMARK(router_forward)->Apply(sizes);
BENCHMARK(router_backward)->Apply(sizes);
BENCHMARK(router_statistics)->Apply(sizes);

}  // namespace
}  // namespace moesaic
