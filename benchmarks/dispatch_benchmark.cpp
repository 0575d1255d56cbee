#include "moesaic/kernels/dispatch.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <vector>

#include "moesaic/kernels/permutation.hpp"

namespace moesaic {
namespace {

/// tokens, top_k, ranks, experts a rank.
struct Dispatch {
  explicit Dispatch(const benchmark::State& state)
      : tokens(state.range(0)), top_k(state.range(1)), ranks(state.range(2)), experts_per_rank(state.range(3)),
        columns(std::min(top_k, ranks)), indices(static_cast<std::size_t>(tokens * top_k)),
        destinations(static_cast<std::size_t>(tokens * columns)), slot_token(destinations.size()),
        token_slot(destinations.size()), slot_indices(static_cast<std::size_t>(tokens * columns * top_k)),
        offsets(static_cast<std::size_t>(ranks + 1)), weights(indices.size(), 0.5f), slot_weights(slot_indices.size()) {
    std::mt19937 generator(1);
    const auto experts = static_cast<std::uint32_t>(ranks * experts_per_rank);
    for (auto& index : indices) index = static_cast<std::int32_t>(generator() % experts);
    find_destinations();
    reference::sort_by_key({}, destination_view(), host_view(offsets.data(), {ranks + 1}), slot_tokens(),
                           host_view(token_slot.data(), {tokens, columns}));
  }

  View index_view() { return host_view(indices.data(), {tokens, top_k}); }
  View weight_view() { return host_view(weights.data(), {tokens, top_k}); }
  View destination_view() { return host_view(destinations.data(), {tokens, columns}); }
  View slot_tokens() { return host_view(slot_token.data(), {tokens * columns}); }
  View slot_weight_view() { return host_view(slot_weights.data(), {offsets.back(), top_k}); }
  void find_destinations() { reference::dispatch_destinations({}, index_view(), experts_per_rank, destination_view()); }

  std::int64_t tokens, top_k, ranks, experts_per_rank, columns;
  std::vector<std::int32_t> indices, destinations, slot_token, token_slot, slot_indices;
  std::vector<std::int64_t> offsets;
  std::vector<float> weights, slot_weights;
};

void dispatch_destinations(benchmark::State& state) {
  Dispatch dispatch(state);
  for (auto _ : state) dispatch.find_destinations();
  state.SetItemsProcessed(state.iterations() * dispatch.tokens);
}

void dispatch_routing(benchmark::State& state) {
  Dispatch d(state);
  for (auto _ : state) {
    reference::dispatch_routing({}, d.index_view(), d.weight_view(), d.slot_tokens(),
                                host_view(d.offsets.data(), {d.ranks + 1}), d.experts_per_rank,
                                host_view(d.slot_indices.data(), {d.offsets.back(), d.top_k}), d.slot_weight_view());
  }
  state.SetItemsProcessed(state.iterations() * d.offsets.back());
}

void dispatch_weights_gradient(benchmark::State& state) {
  Dispatch d(state);
  for (auto _ : state) {
    reference::dispatch_weights_gradient({}, d.index_view(), d.destination_view(),
                                         host_view(d.token_slot.data(), {d.tokens, d.columns}), d.experts_per_rank,
                                         d.slot_weight_view(), d.weight_view());
  }
  state.SetItemsProcessed(state.iterations() * d.tokens);
}

void sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"tokens", "top_k", "ranks", "experts_per_rank"})->UseRealTime();
  benchmark->Args({2048, 2, 4, 2})->Args({4096, 8, 8, 16});
}

BENCHMARK(dispatch_destinations)->Apply(sizes);
BENCHMARK(dispatch_routing)->Apply(sizes);
BENCHMARK(dispatch_weights_gradient)->Apply(sizes);

}  // namespace
}  // namespace moesaic
