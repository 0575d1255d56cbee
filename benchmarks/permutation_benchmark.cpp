#include "moesaic/kernels/permutation.hpp"

#include <benchmark/benchmark.h>

#include <random>
#include <vector>

namespace moesaic {
namespace {

/// tokens, width, top_k, experts.
struct Permutation {
  explicit Permutation(const benchmark::State& state)
      : tokens(state.range(0)), width(state.range(1)), top_k(state.range(2)), slots(tokens * top_k),
        keys(static_cast<std::size_t>(slots)), slot_token(keys.size()), token_slot(keys.size()),
        offsets(static_cast<std::size_t>(state.range(3) + 1)), weights(keys.size(), 0.5f),
        weights_gradient(keys.size()), token_rows(static_cast<std::size_t>(tokens * width), 1.0f),
        slot_rows(static_cast<std::size_t>(slots * width), 1.0f) {
    std::mt19937 generator(1);
    for (auto& key : keys) key = static_cast<std::int32_t>(generator() % static_cast<std::uint32_t>(state.range(3)));
    sort();
  }

  View entries(std::vector<std::int32_t>& values) const { return host_view(values.data(), {tokens, top_k}); }
  View entries(std::vector<float>& values) const { return host_view(values.data(), {tokens, top_k}); }
  View in_tokens() { return host_view(token_rows.data(), {tokens, width}); }
  View in_slots() { return host_view(slot_rows.data(), {slots, width}); }
  View slot_tokens() { return host_view(slot_token.data(), {slots}); }
  void sort() {
    reference::sort_by_key({}, entries(keys), host_view(offsets.data(), {static_cast<std::int64_t>(offsets.size())}),
                           slot_tokens(), entries(token_slot));
  }

  std::int64_t tokens, width, top_k, slots;
  std::vector<std::int32_t> keys, slot_token, token_slot;
  std::vector<std::int64_t> offsets;
  std::vector<float> weights, weights_gradient, token_rows, slot_rows;
};

void sort_by_key(benchmark::State& state) {
  Permutation permutation(state);
  for (auto _ : state) permutation.sort();
  state.SetItemsProcessed(state.iterations() * permutation.slots);
}

/// Bytes: a row read and a row written a slot.
void gather_rows(benchmark::State& state) {
  Permutation permutation(state);
  for (auto _ : state) {
    reference::gather_rows({}, permutation.in_tokens(), permutation.slot_tokens(), permutation.in_slots());
  }
  state.SetBytesProcessed(state.iterations() * permutation.slots * permutation.width * 8);
}

/// Bytes: a row read a slot, a row written a token.
void combine_rows(benchmark::State& state) {
  Permutation p(state);
  for (auto _ : state) {
    reference::combine_rows({}, p.in_slots(), p.entries(p.token_slot), p.entries(p.weights), p.in_tokens());
  }
  state.SetBytesProcessed(state.iterations() * (p.slots + p.tokens) * p.width * 4);
}

/// Bytes: a row read and written a slot, a row read a token.
void combine_rows_backward(benchmark::State& state) {
  Permutation p(state);
  for (auto _ : state) {
    reference::combine_rows_backward({}, p.in_slots(), p.entries(p.token_slot), p.entries(p.weights), p.in_tokens(),
                                     p.in_slots(), p.entries(p.weights_gradient));
  }
  state.SetBytesProcessed(state.iterations() * (2 * p.slots + p.tokens) * p.width * 4);
}

void sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"tokens", "width", "top_k", "experts"})->UseRealTime();
  benchmark->Args({2048, 128, 2, 8})->Args({4096, 2048, 8, 128});
}

BENCHMARK(sort_by_key)->Apply(sizes);
BENCHMARK(gather_rows)->Apply(sizes);
BENCHMARK(combine_rows)->Apply(sizes);
BENCHMARK(combine_rows_backward)->Apply(sizes);

}  // namespace
}  // namespace moesaic
