/// Attention over sequences that are cut over the ranks against attention over whole ones.
#include "moesaic/parallel/context_parallel.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <utility>

#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/comm/recording_communicator.hpp"
#include "moesaic/grid/block.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

struct Sizes {
  std::int64_t sequences, block, heads, key_heads, width, value_width;
};

/// What attention reads and makes, of whole sequences or of a rank's tokens.
struct Operands {
  HostTensor q, k, v, out, log_sum_exp, out_gradient, q_gradient, k_gradient, v_gradient;

  Operands(const Sizes& s, std::int64_t length)
      : q(DType::f64, {s.sequences, length, s.heads, s.width}),
        k(DType::f64, {s.sequences, length, s.key_heads, s.width}),
        v(DType::f64, {s.sequences, length, s.key_heads, s.value_width}),
        out(DType::f64, {s.sequences, length, s.heads, s.value_width}),
        log_sum_exp(DType::f64, {s.sequences, s.heads, length}), out_gradient(DType::f64, out.view().extents()),
        q_gradient(DType::f64, q.view().extents()), k_gradient(DType::f64, k.view().extents()),
        v_gradient(DType::f64, v.view().extents()) {
    for (HostTensor* x : {&out, &log_sum_exp, &q_gradient, &k_gradient, &v_gradient}) poison(*x);
  }

  void run(SequenceExchange& exchange, const LayerContext& ctx, const AttentionMask& mask) {
    exchange.attention_forward(ctx, mask, 0.5, q, k, v, out, log_sum_exp);
    exchange.attention_backward(ctx, mask, 0.5, q, k, v, out, log_sum_exp, out_gradient, q_gradient, k_gradient,
                                v_gradient);
  }
};

/// This rank's two blocks of dimension `dimension`.
HostTensor own_part(ConstView whole, int dimension, const Communicator& ranks) {
  const BlockPair blocks = mirrored_blocks_of(whole.extent(dimension), ranks.size(), ranks.rank());
  const std::int64_t size = blocks.early.size();
  Extents extents = whole.extents();
  extents[dimension] = 2 * size;
  HostTensor own(whole.dtype(), extents);
  assign(own.view().slice(dimension, 0, size), elements(whole.slice(dimension, blocks.early.begin, blocks.early.end)));
  assign(own.view().slice(dimension, size, 2 * size),
         elements(whole.slice(dimension, blocks.late.begin, blocks.late.end)));
  return own;
}

class ContextParallel : public ::testing::TestWithParam<ContextExchange> {
 protected:
  ContextParallel()
      : ranks(std::make_unique<MpiCommunicator>(MpiHandle::duplicate(MPI_COMM_WORLD), arena), "context", recording),
        exchange(make_sequence_exchange(ranks, GetParam())) {}

  std::int64_t length(const Sizes& s) const { return 2 * ranks.size() * s.block; }

  Operands whole_operands(const Sizes& s) const {
    Operands whole(s, length(s));
    std::uint32_t seed = 1;
    for (HostTensor* x : {&whole.q, &whole.k, &whole.v, &whole.out_gradient}) fill_random(*x, seed++, 2);
    return whole;
  }

  Operands own_operands(const Sizes& s, const Operands& whole) const {
    Operands own(s, 2 * s.block);
    own.q = own_part(whole.q, 1, ranks);
    own.k = own_part(whole.k, 1, ranks);
    own.v = own_part(whole.v, 1, ranks);
    own.out_gradient = own_part(whole.out_gradient, 1, ranks);
    return own;
  }

  void expect_own_part(ConstView own, ConstView whole, int dimension, const char* what) const {
    EXPECT_LT(max_difference(own, own_part(whole, dimension, ranks)), 1e-12) << what;
  }

  /// documents: [sequences, length] or absent.
  void expect_as_whole(const Sizes& s, bool causal, ConstView documents = {}, std::int64_t window = 0) {
    Operands whole = whole_operands(s);
    LocalSequences local;
    AttentionMask mask{.causal = causal, .window = window, .query_documents = documents, .key_documents = documents};
    whole.run(local, ctx, mask);

    HostTensor own_documents(DType::i32, {s.sequences, 2 * s.block});
    if (!documents.absent()) mask.query_documents = (own_documents = own_part(documents, 1, ranks));
    Operands own = own_operands(s, whole);
    own.run(*exchange, ctx, mask);
    expect_own_part(own.out, whole.out, 1, "out");
    expect_own_part(own.log_sum_exp, whole.log_sum_exp, 2, "log_sum_exp");
    expect_own_part(own.q_gradient, whole.q_gradient, 1, "q");
    expect_own_part(own.k_gradient, whole.k_gradient, 1, "k");
    expect_own_part(own.v_gradient, whole.v_gradient, 1, "v");
    EXPECT_EQ(arena.used(), 0);
  }

  /// Documents of 5, 1, 7, 2, ... tokens begin and end anywhere in the blocks.
  HostTensor documents_of(const Sizes& s) const {
    HostTensor documents(DType::i32, {s.sequences, length(s)});
    constexpr std::array<std::int64_t, 5> lengths{5, 1, 7, 2, 10};
    std::int64_t left = 0, document = 0;
    for (std::int64_t t = 0; t < documents.view().size(); ++t, --left) {
      if (left == 0 || t == length(s)) left = lengths[static_cast<std::size_t>(document++ % 5)];
      set_element(documents, t, static_cast<double>(document));
    }
    return documents;
  }

  std::int64_t take_sent() {
    std::int64_t sum = 0;
    for (const RecordedEvent& event : recording.events())
      if (event.kind == RecordedEvent::Kind::initiate) sum += event.sent;
    recording.clear();
    return sum;
  }

  Arena arena{host_memory()};
  Recording recording;
  RecordingCommunicator ranks;
  std::unique_ptr<SequenceExchange> exchange;
  LayerContext ctx{&operators(DeviceKind::cpu), {host_stream, &arena}, DType::f64};
};
INSTANTIATE_TEST_SUITE_P(RingAndGather, ContextParallel,
                         ::testing::Values(ContextExchange::ring, ContextExchange::gather),
                         [](const auto& kind) { return kind.param == ContextExchange::ring ? "ring" : "gather"; });

TEST_P(ContextParallel, CausalIsAsOnWholeSequences) {
  expect_as_whole({2, 3, 2, 2, 4, 4}, true);
  expect_as_whole({1, 70, 2, 1, 4, 4}, true);  // more than one tile of queries and keys
}

TEST_P(ContextParallel, GroupedQueriesAndValuesOfAnotherWidth) { expect_as_whole({3, 2, 6, 2, 5, 3}, true); }

TEST_P(ContextParallel, BlocksOfOneToken) { expect_as_whole({2, 1, 2, 1, 3, 3}, true); }

TEST_P(ContextParallel, BothDirections) { expect_as_whole({2, 3, 4, 2, 4, 4}, false); }

TEST_P(ContextParallel, NoSequences) { expect_as_whole({0, 3, 4, 2, 4, 4}, true); }

TEST_P(ContextParallel, DocumentsAcrossTheEdgesOfBlocks) {
  const Sizes s{2, 4, 4, 2, 4, 3};
  expect_as_whole(s, true, documents_of(s));
}

// Within a block, of a block, over a few, over the whole sequence: some blocks are seen in part, some not at all.
TEST_P(ContextParallel, Windows) {
  for (const std::int64_t window : {1, 2, 3, 4, 5, 7, 9, 13, 100}) {
    SCOPED_TRACE(window);
    const Sizes s{2, 4, 4, 2, 4, 3};
    expect_as_whole(s, true, {}, window);
    expect_as_whole(s, false, {}, window);
    expect_as_whole(s, true, documents_of(s), window);
  }
  expect_as_whole({1, 70, 2, 1, 4, 4}, true, {}, 65);
  expect_as_whole({1, 70, 2, 1, 4, 4}, true, {}, 90);
  expect_as_whole({0, 4, 2, 1, 4, 4}, true, {}, 3);
}

// The first block is NaN: in blocks for which attention to it were computed and hidden, products with it would be, too. A
// window of 2 takes halos, one of 6 the exchange.
TEST_P(ContextParallel, BlocksOutsideTheWindowAreSkipped) {
  if (ranks.size() == 1) return;  // one piece
  const Sizes s{1, 4, 2, 1, 2, 2};
  for (const std::int64_t window : {2, 6}) {
    Operands whole = whole_operands(s);
    poison(whole.k.view().slice(1, 0, 4));
    poison(whole.v.view().slice(1, 0, 4));
    Operands own = own_operands(s, whole);
    own.run(*exchange, ctx, {.window = window});
    const BlockPair blocks = mirrored_blocks_of(length(s), ranks.size(), ranks.rank());
    for (const auto& [block, first] : {std::pair{blocks.early, 0}, std::pair{blocks.late, 4}}) {
      if (block.begin - 3 < window) continue;  // it sees the last of them
      for (const HostTensor* x : {&own.out, &own.q_gradient, &own.k_gradient, &own.v_gradient})
        for (double value : elements(x->view().slice(1, first, first + 4))) EXPECT_FALSE(std::isnan(value));
    }
  }
}

TEST_P(ContextParallel, BytesOfAWindowAreThoseOfItsHalos) {
  const Sizes s{2, 4, 6, 2, 5, 3};
  const Operands whole = whole_operands(s);
  Operands own = own_operands(s, whole);
  const AttentionMask mask{.window = 4};
  const std::int64_t elements = s.sequences * 3 * s.key_heads * (s.width + s.value_width);
  // A rank's early block is followed by the next rank's, its late one by the one of the rank before.
  const std::int64_t after = (ranks.rank() + 1 < ranks.size()) + (ranks.rank() > 0);
  exchange->attention_forward(ctx, mask, 0.5, own.q, own.k, own.v, own.out, own.log_sum_exp);
  EXPECT_EQ(take_sent(), after * elements * 8);
  exchange->attention_backward(ctx, mask, 0.5, own.q, own.k, own.v, own.out, own.log_sum_exp, own.out_gradient,
                               own.q_gradient, own.k_gradient, own.v_gradient);
  const std::int64_t before = (ranks.rank() > 0) + (ranks.rank() + 1 < ranks.size());
  EXPECT_EQ(take_sent(), (after + before) * elements * 8);
}

TEST_P(ContextParallel, TakesAndSetsViewsOfOneProjection) {
  const Sizes s{2, 3, 4, 2, 4, 4};
  Operands whole = whole_operands(s), dense = own_operands(s, whole), strided = own_operands(s, whole);
  dense.run(*exchange, ctx, {});
  const std::int64_t tokens = s.sequences * 2 * s.block;
  HostTensor fused(DType::f64, {tokens, 32}), gradient(DType::f64, {tokens, 32});
  const auto heads = [&](View rows, std::int64_t begin, std::int64_t count) {
    return rows.slice(1, begin, begin + count * 4).split_last(count, 4).split_first(s.sequences, 2 * s.block);
  };
  const View q = heads(fused, 0, 4), k = heads(fused, 16, 2), v = heads(fused, 24, 2);
  assign(q, elements(dense.q));
  assign(k, elements(dense.k));
  assign(v, elements(dense.v));
  exchange->attention_forward(ctx, {}, 0.5, q, k, v, strided.out, strided.log_sum_exp);
  exchange->attention_backward(ctx, {}, 0.5, q, k, v, strided.out, strided.log_sum_exp, strided.out_gradient,
                               heads(gradient, 0, 4), heads(gradient, 16, 2), heads(gradient, 24, 2));
  EXPECT_EQ(max_difference(strided.out, dense.out), 0);
  EXPECT_EQ(max_difference(heads(gradient, 0, 4), dense.q_gradient), 0);
  EXPECT_EQ(max_difference(heads(gradient, 16, 2), dense.k_gradient), 0);
  EXPECT_EQ(max_difference(heads(gradient, 24, 2), dense.v_gradient), 0);
}

TEST_P(ContextParallel, BytesAreThoseOfTheFormula) {
  const Sizes s{2, 3, 6, 2, 5, 3};
  const Operands whole = whole_operands(s);
  Operands own = own_operands(s, whole);
  const std::int64_t elements = s.sequences * 2 * s.block * s.key_heads * (s.width + s.value_width);
  exchange->attention_forward(ctx, {}, 0.5, own.q, own.k, own.v, own.out, own.log_sum_exp);
  EXPECT_EQ(take_sent(), (ranks.size() - 1) * elements * 8);
  exchange->attention_backward(ctx, {}, 0.5, own.q, own.k, own.v, own.out, own.log_sum_exp, own.out_gradient,
                               own.q_gradient, own.k_gradient, own.v_gradient);
  EXPECT_EQ(take_sent(), (ranks.size() - 1) * elements * (8 + 8));
}

}  // namespace
}  // namespace moesaic
