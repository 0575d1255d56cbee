#include "moesaic/kernels/embedding.hpp"

#include <benchmark/benchmark.h>

#include <random>
#include <vector>

namespace moesaic {
namespace {

/// tokens, hidden, vocabulary.
struct Embedding {
  explicit Embedding(const benchmark::State& state)
      : tokens(state.range(0)), hidden(state.range(1)), vocabulary(state.range(2)),
        ids(static_cast<std::size_t>(tokens)), rows(static_cast<std::size_t>(tokens * hidden), 1.0f),
        table(static_cast<std::size_t>(vocabulary * hidden)) {
    std::mt19937 generator(1);
    for (auto& id : ids) id = static_cast<std::int32_t>(generator() % static_cast<std::uint32_t>(vocabulary));
  }

  View id_view() { return host_view(ids.data(), {tokens}); }
  View row_view() { return host_view(rows.data(), {tokens, hidden}); }
  View table_view() { return host_view(table.data(), {vocabulary, hidden}); }

  std::int64_t tokens, hidden, vocabulary;
  std::vector<std::int32_t> ids;
  std::vector<float> rows, table;
};

void embedding_forward(benchmark::State& state) {
  Embedding embedding(state);
  for (auto _ : state) {
    reference::embedding_forward({}, embedding.table_view(), embedding.id_view(), embedding.row_view());
  }
  state.SetBytesProcessed(state.iterations() * embedding.tokens * embedding.hidden * 8);
}

void embedding_backward(benchmark::State& state) {
  Embedding embedding(state);
  for (auto _ : state) {
    reference::embedding_backward({}, embedding.id_view(), embedding.row_view(), embedding.table_view());
  }
  state.SetBytesProcessed(state.iterations() * embedding.tokens * embedding.hidden * 12);
}

void sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"tokens", "hidden", "vocabulary"})->UseRealTime();
  benchmark->Args({2048, 128, 256})->Args({4096, 2048, 32768});
}

BENCHMARK(embedding_forward)->Apply(sizes);
BENCHMARK(embedding_backward)->Apply(sizes);

}  // namespace
}  // namespace moesaic
