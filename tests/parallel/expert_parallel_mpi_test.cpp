#include "moesaic/parallel/expert_parallel.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <set>

#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/comm/recording_communicator.hpp"
#include "moesaic/grid/block.hpp"
#include "moesaic/layers/experts.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

constexpr std::int64_t hidden_width = 6, expert_width = 4;

enum class Routing : std::uint8_t { random, first_experts };

/// The tokens of all ranks, one rank's after the other's; every rank makes the same.
struct Tokens {
  Tokens(std::int64_t tokens, std::int64_t experts, std::int64_t top_k, Routing routing, DType type)
      : hidden(random_tensor(type, {tokens, hidden_width}, 1)), indices(DType::i32, {tokens, top_k}),
        weights(random_tensor(accumulator_of(type), {tokens, top_k}, 2)),
        output_gradient(random_tensor(type, {tokens, hidden_width}, 3)) {
    std::mt19937 generator(4);
    std::vector<std::int32_t> all(static_cast<std::size_t>(experts));
    std::iota(all.begin(), all.end(), 0);
    for (std::int64_t t = 0; t < tokens; ++t) {
      if (routing == Routing::random) std::shuffle(all.begin(), all.end(), generator);
      std::copy_n(all.begin(), top_k, indices.data<std::int32_t>() + t * top_k);
    }
  }
  HostTensor hidden, indices, weights, output_gradient;
};

/// All experts' weights and where their gradients go.
struct Experts {
  explicit Experts(std::int64_t experts, DType type)
      : gate_up(random_tensor(type, {experts, 2 * expert_width, hidden_width}, 5)),
        down(random_tensor(type, {experts, hidden_width, expert_width}, 6)),
        gate_up_gradient(accumulator_of(type), {experts, 2 * expert_width, hidden_width}),
        down_gradient(accumulator_of(type), {experts, hidden_width, expert_width}) {}
  ExpertViews values(Block block) {
    return {gate_up.view().rows(block.begin, block.end), down.view().rows(block.begin, block.end)};
  }
  ExpertViews gradients(Block block) {
    return {gate_up_gradient.view().rows(block.begin, block.end), down_gradient.view().rows(block.begin, block.end)};
  }
  HostTensor gate_up, down, gate_up_gradient, down_gradient;
};

struct Outcome {
  Tensor output, hidden_gradient, weights_gradient;
};

class ExpertParallelTest : public ::testing::Test {
 protected:
  /// Forward and both halves of backward of tokens [tokens.begin, tokens.end) by way of `exchange`, whose rank holds
  /// the experts of `block`.
  Outcome run(ExpertExchange& exchange, const LayerContext& context, const Tokens& tokens, Block range,
              Experts& experts, Block block) {
    const auto mine = [&](const HostTensor& all) { return all.view().rows(range.begin, range.end); };
    const auto passage =
        exchange.begin(context, mine(tokens.indices), mine(tokens.weights), experts.gate_up.view().extent(0));
    ExpertState state;
    Outcome outcome;
    passage->initiate_dispatch(mine(tokens.hidden));
    const ExpertInput& input = passage->complete_dispatch();
    passage->initiate_combine(experts_forward(context, experts.values(block), input, state));
    outcome.output = passage->complete_combine();

    passage->initiate_combine_backward(mine(tokens.output_gradient));
    const ConstView partial = passage->complete_combine_backward();
    ExpertGradients gradients = experts_backward_input(context, experts.values(block), input, partial, state);
    passage->initiate_dispatch_backward(std::move(gradients.rows), std::move(gradients.weights));
    RoutedGradients routed = passage->complete_dispatch_backward();
    outcome.hidden_gradient = std::move(routed.hidden);
    outcome.weights_gradient = std::move(routed.weights);
    experts_backward_weight(context, input, state, experts.gradients(block));
    return outcome;
  }

  Block range_of_rank(const std::vector<std::int64_t>& tokens_of_rank, int of) const {
    const auto begin = std::accumulate(tokens_of_rank.begin(), tokens_of_rank.begin() + of, std::int64_t{0});
    return {begin, begin + tokens_of_rank[of]};
  }

  /// The experts spread over the ranks give what all of them on one rank give.
  void expect_local_result(std::vector<std::int64_t> tokens_of_rank, std::int64_t experts_per_rank, std::int64_t top_k,
                           Routing routing) {
    SCOPED_TRACE(testing::Message() << experts_per_rank << " experts a rank, top " << top_k << ", tokens "
                                    << testing::PrintToString(tokens_of_rank));
    tokens_of_rank.resize(size);
    const std::int64_t experts = experts_per_rank * size;
    const Block mine = range_of_rank(tokens_of_rank, rank), all{0, range_of_rank(tokens_of_rank, size - 1).end};
    const Block here{rank * experts_per_rank, (rank + 1) * experts_per_rank};
    const Tokens tokens(all.end, experts, std::min(top_k, experts), routing, DType::f64);
    Experts spread(experts, DType::f64), local(experts, DType::f64);

    LocalExperts one_rank;
    ExpertParallel many(world);
    const Outcome expected = run(one_rank, f64, tokens, all, local, {0, experts});
    const Outcome outcome = run(many, f64, tokens, mine, spread, here);

    const auto rows = [&](const Tensor& tensor) { return tensor.view().rows(mine.begin, mine.end); };
    EXPECT_LE(max_difference(outcome.output.view(), rows(expected.output)), 1e-12);
    EXPECT_LE(max_difference(outcome.hidden_gradient.view(), rows(expected.hidden_gradient)), 1e-12);
    EXPECT_LE(max_difference(outcome.weights_gradient.view(), rows(expected.weights_gradient)), 1e-12);
    EXPECT_LE(max_difference(spread.gradients(here).gate_up, local.gradients(here).gate_up), 1e-12);
    EXPECT_LE(max_difference(spread.gradients(here).down, local.gradients(here).down), 1e-12);
  }

  /// The ranks that hold an expert of token `t`.
  std::set<int> ranks_of(const Tokens& tokens, std::int64_t t, std::int64_t experts_per_rank) const {
    const std::int64_t top_k = tokens.indices.view().extent(1);
    std::set<int> ranks;
    for (std::int64_t j = 0; j < top_k; ++j)
      ranks.insert(static_cast<int>(tokens.indices.data<std::int32_t>()[t * top_k + j] / experts_per_rank));
    return ranks;
  }

  Arena arena{host_memory()};
  LayerContext f32{&operators(DeviceKind::cpu), {host_stream, &arena}, DType::f32};
  LayerContext f64{&operators(DeviceKind::cpu), {host_stream, &arena}, DType::f64};
  MpiCommunicator world{MpiHandle::duplicate(MPI_COMM_WORLD), arena};
  int rank = world.rank(), size = world.size();
};

TEST_F(ExpertParallelTest, EveryTopK) {
  for (std::int64_t top_k = 1; top_k <= 8; ++top_k) expect_local_result({9, 9, 9, 9}, 4, top_k, Routing::random);
}

TEST_F(ExpertParallelTest, OneExpertARank) { expect_local_result({5, 8, 3, 6}, 1, 2, Routing::random); }

TEST_F(ExpertParallelTest, HundredsOfExperts) {
  expect_local_result({40, 40, 40, 40}, 128, 8, Routing::random);
  expect_local_result({3, 50, 0, 17}, 100, 6, Routing::random);
}

TEST_F(ExpertParallelTest, UnevenTokens) {
  expect_local_result({1, 31, 7, 2}, 3, 3, Routing::random);
  expect_local_result({13, 0, 1, 0}, 2, 2, Routing::random);
  expect_local_result({0, 11, 0, 5}, 2, 2, Routing::random);
}

TEST_F(ExpertParallelTest, NoTokensAtAll) { expect_local_result({0, 0, 0, 0}, 2, 2, Routing::random); }

TEST_F(ExpertParallelTest, AllTokensToOneExpert) {
  expect_local_result({12, 7, 0, 9}, 4, 1, Routing::first_experts);
  expect_local_result({12, 7, 0, 9}, 128, 8, Routing::first_experts);
}

/// A partial sum names who made it of which token: a hand loop over the ranks, ascending, must give the same bits.
TEST_F(ExpertParallelTest, PartialSumsAreAddedInRankOrder) {
  const std::int64_t experts_per_rank = 3, count = 25;
  const Tokens tokens(count * size, 3 * size, 3, Routing::random, DType::f32);
  HostTensor hidden(DType::f32, {count * size, hidden_width});
  for (std::int64_t t = 0; t < count * size; ++t) hidden.data<float>()[t * hidden_width] = static_cast<float>(t);
  const auto part = [](int owner, std::int64_t t, std::int64_t column) {  // of any magnitude: sums round
    return std::ldexp(std::sin(static_cast<float>(t * 5 + column * 3 + owner)), static_cast<int>((t + owner) % 20));
  };
  const Block mine{rank * count, (rank + 1) * count};
  const auto rows = [&](const HostTensor& tensor) { return tensor.view().rows(mine.begin, mine.end); };
  const auto partial = [&](const ExpertInput& input) {
    Tensor sums = f32.activation(input.rows.extents());
    for (std::int64_t row = 0; row < input.rows.extent(0); ++row) {
      const auto t = static_cast<std::int64_t>(input.rows.data<float>()[row * hidden_width]);
      for (std::int64_t c = 0; c < hidden_width; ++c)
        sums.view().data<float>()[row * hidden_width + c] = part(rank, t, c);
    }
    return sums;
  };
  const auto expect_rank_order = [&](const Tensor& sums) {
    for (std::int64_t t = mine.begin; t < mine.end; ++t) {
      for (std::int64_t c = 0; c < hidden_width; ++c) {
        float expected = 0;
        for (int owner : ranks_of(tokens, t, experts_per_rank)) expected += part(owner, t, c);
        ASSERT_EQ(sums.view().data<float>()[(t - mine.begin) * hidden_width + c], expected) << t << ", " << c;
      }
    }
  };

  ExpertParallel exchange(world);
  const auto passage = exchange.begin(f32, rows(tokens.indices), rows(tokens.weights), experts_per_rank * size);
  passage->initiate_dispatch(rows(hidden));
  const ExpertInput& input = passage->complete_dispatch();
  passage->initiate_combine(partial(input));
  expect_rank_order(passage->complete_combine());
  passage->initiate_combine_backward(rows(tokens.output_gradient));
  passage->complete_combine_backward();
  Tensor weights_gradient = f32.activation(input.weights.extents());
  f32.ops->fill(f32.on, 0, weights_gradient);
  passage->initiate_dispatch_backward(partial(input), std::move(weights_gradient));
  expect_rank_order(passage->complete_dispatch_backward().hidden);
}

/// Experts are told from each rank's first, weights of experts elsewhere are 0, and slots counts what is here.
TEST_F(ExpertParallelTest, RoutingTravelsWithTheTokens) {
  const std::int64_t experts_per_rank = 2, top_k = 2;
  const Tokens tokens(7 * size, experts_per_rank * size, top_k, Routing::random, DType::f64);
  const auto rows = [&](const HostTensor& tensor) { return tensor.view().rows(7 * rank, 7 * rank + 7); };
  ExpertParallel exchange(world);
  const auto passage = exchange.begin(f64, rows(tokens.indices), rows(tokens.weights), experts_per_rank * size);
  passage->initiate_dispatch(rows(tokens.hidden));
  const ExpertInput& input = passage->complete_dispatch();
  std::int64_t row = 0, slots = 0;
  for (std::int64_t t = 0; t < 7 * size; ++t) {
    if (!ranks_of(tokens, t, experts_per_rank).contains(rank)) continue;
    ASSERT_LT(row, input.rows.extent(0));
    EXPECT_EQ(max_difference(input.rows.rows(row, row + 1), tokens.hidden.view().rows(t, t + 1)), 0);
    for (std::int64_t j = 0; j < top_k; ++j) {
      const std::int64_t expert = tokens.indices.data<std::int32_t>()[t * top_k + j] - rank * experts_per_rank;
      const bool here = 0 <= expert && expert < experts_per_rank;
      EXPECT_EQ(input.indices.data<std::int32_t>()[row * top_k + j], here ? expert : -1);
      EXPECT_EQ(input.weights.data<double>()[row * top_k + j], here ? tokens.weights.data<double>()[t * top_k + j] : 0);
      slots += here ? 1 : 0;
    }
    ++row;
  }
  EXPECT_EQ(row, input.rows.extent(0)) << "a token came twice";
  EXPECT_EQ(slots, input.slots);
}

/// Bytes of what was initiated since event `from`.
struct Traffic {
  std::int64_t sent = 0, received = 0;
};

class ExpertTrafficTest : public ExpertParallelTest {
 protected:
  Traffic since_last() {
    Traffic traffic;
    for (; seen_ < recording.events().size(); ++seen_) {
      if (recording.events()[seen_].kind != RecordedEvent::Kind::initiate) continue;
      traffic.sent += recording.events()[seen_].sent;
      traffic.received += recording.events()[seen_].received;
    }
    return traffic;
  }

  /// A token travels once to each other rank that holds any of its experts, and comes back as one row.
  void expect_bytes(std::int64_t top_k, std::int64_t row_copies_sent, std::int64_t row_copies_received,
                    const Tokens& tokens, std::int64_t count, std::int64_t experts) {
    const std::int64_t row = hidden_width * 4, weights = top_k * 4, counts = 8 * (1 + 2 * size) * (size - 1);
    const auto mine = [&](const HostTensor& all) { return all.view().rows(rank * count, (rank + 1) * count); };
    const auto expect = [&](const char* what, std::int64_t sent, std::int64_t received) {
      const Traffic traffic = since_last();
      EXPECT_EQ(traffic.sent, sent) << what;
      EXPECT_EQ(traffic.received, received) << what;
    };
    RecordingCommunicator recorder(std::make_unique<MpiCommunicator>(MpiHandle::duplicate(MPI_COMM_WORLD), arena),
                                   "expert", recording);
    ExpertParallel exchange(recorder);
    const auto passage = exchange.begin(f32, mine(tokens.indices), mine(tokens.weights), experts);
    passage->initiate_dispatch(mine(tokens.hidden));
    const ExpertInput& input = passage->complete_dispatch();
    expect("dispatch", row_copies_sent * (row + top_k * (4 + 4)) + counts,
           row_copies_received * (row + top_k * (4 + 4)) + counts);
    Tensor partial = f32.activation(input.rows.extents()), weights_gradient = f32.activation(input.weights.extents());
    f32.ops->fill(f32.on, 0, partial);
    f32.ops->fill(f32.on, 0, weights_gradient);
    passage->initiate_combine(std::move(partial));
    passage->complete_combine();
    expect("combine", row_copies_received * row, row_copies_sent * row);

    passage->initiate_combine_backward(mine(tokens.output_gradient));
    passage->complete_combine_backward();
    expect("combine backward", row_copies_sent * row, row_copies_received * row);
    partial = f32.activation(input.rows.extents());
    f32.ops->fill(f32.on, 0, partial);
    passage->initiate_dispatch_backward(std::move(partial), std::move(weights_gradient));
    passage->complete_dispatch_backward();
    expect("dispatch backward", row_copies_received * (row + weights), row_copies_sent * (row + weights));
  }

  Recording recording;

 private:
  std::size_t seen_ = 0;
};

TEST_F(ExpertTrafficTest, ATokenTravelsOnceToEachRankThatHoldsItsExperts) {
  const std::int64_t experts_per_rank = 16, count = 30;
  for (std::int64_t top_k : {1, 2, 4, 8}) {
    const Tokens tokens(count * size, experts_per_rank * size, top_k, Routing::random, DType::f32);
    std::int64_t sent = 0, received = 0;
    for (std::int64_t t = 0; t < count * size; ++t) {
      const std::set<int> ranks = ranks_of(tokens, t, experts_per_rank);
      const bool is_mine = t / count == rank, here = ranks.contains(rank);
      if (is_mine) sent += static_cast<std::int64_t>(ranks.size()) - (here ? 1 : 0);
      if (!is_mine && here) ++received;
    }
    expect_bytes(top_k, sent, received, tokens, count, experts_per_rank * size);
  }
}

TEST_F(ExpertTrafficTest, EightExpertsOfOneRankCostOneCopy) {
  // 30 tokens a rank, all eight experts of each on rank 0.
  const Tokens tokens(30 * size, 8 * size, 8, Routing::first_experts, DType::f32);
  expect_bytes(8, rank == 0 ? 0 : 30, rank == 0 ? 30 * (size - 1) : 0, tokens, 30, 8 * size);
}

TEST_F(ExpertParallelTest, APassageGivesItsMemoryBack) {
  {
    const Tokens tokens(10 * size, 4 * size, 2, Routing::random, DType::f64);
    Experts experts(4 * size, DType::f64);
    ExpertParallel exchange(world);
    run(exchange, f64, tokens, {10 * rank, 10 * rank + 10}, experts, {4 * rank, 4 * rank + 4});
  }
  EXPECT_EQ(arena.used(), 0);
}

TEST_F(ExpertParallelTest, OneRankNeedsNoExchange) {
  const auto exchange = make_expert_exchange(world);
  EXPECT_EQ(dynamic_cast<LocalExperts*>(exchange.get()) != nullptr, size == 1);
  EXPECT_EQ(dynamic_cast<ExpertParallel*>(exchange.get()) != nullptr, size > 1);
}

TEST_F(ExpertParallelTest, StatisticsAreSummedOverTheRanks) {
  HostTensor counts = make_tensor(DType::f32, {3}, {1, 0, 1.0 * rank});
  HostTensor probabilities = make_tensor(DType::f32, {2}, {0.5, 0.25 * rank});
  SharedStatistics(world).sum(counts, probabilities);
  const double ranks = size, rank_sum = size * (size - 1) / 2.0;
  EXPECT_EQ(elements(counts.view()), (std::vector<double>{ranks, 0, rank_sum}));
  EXPECT_EQ(elements(probabilities.view()), (std::vector<double>{0.5 * ranks, 0.25 * rank_sum}));
}

}  // namespace
}  // namespace moesaic
