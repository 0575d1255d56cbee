// Receive buffers of experts that overflow: a MoE layer carries its tokens in rounds that fit, or, where the micro-batch
// could be smaller, carries none.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <memory>

#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/comm/recording_communicator.hpp"
#include "moesaic/layers/moe.hpp"
#include "moesaic/parallel/expert_parallel.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

constexpr std::int64_t experts_per_rank = 3;
constexpr std::int64_t full = 12;  ///< tokens of a full micro-batch on a rank
constexpr double poison = std::numeric_limits<double>::quiet_NaN();

MoeSpec spec_of(int ranks, std::int64_t top_k) {
  return {.hidden = 4,
          .width = 5,
          .experts = experts_per_rank * ranks,
          .top_k = top_k,
          .bias = true,
          .selection_bias = true,
          .shared_width = 3};
}

std::int64_t most_rows_seen = 0, most_slots_seen = 0;

/// Notes how much reached the experts at once.
Operators noting_operators() {
  Operators ops = operators(DeviceKind::cpu);
  ops.expert_up = [](const OperatorContext& on, const SwigluOptions& options, ConstView in, ConstView slot_token,
                     ConstView up, ConstView bias, ConstView offsets, View gate_up, View activated) {
    most_rows_seen = std::max(most_rows_seen, in.extent(0));
    most_slots_seen = std::max(most_slots_seen, gate_up.extent(0));
    reference::expert_up(on, options, in, slot_token, up, bias, offsets, gate_up, activated);
  };
  return ops;
}

/// Parameters of this rank, or their gradients.
struct Values {
  Values(const std::vector<ParameterSpec>& dense_specs, const std::vector<ParameterSpec>& expert_specs, int rank) {
    for (const ParameterSpec& parameter : dense_specs)
      add(random_tensor(DType::f64, parameter.shape, 10 + static_cast<std::uint32_t>(all.size())), dense);
    for (const ParameterSpec& parameter : expert_specs) {
      Extents shape = parameter.shape;
      shape[0] = experts_per_rank;
      add(random_tensor(DType::f64, shape,
                        100 * (1 + static_cast<std::uint32_t>(rank)) + static_cast<std::uint32_t>(all.size())),
          experts);
    }
  }
  void add(HostTensor tensor, std::vector<View>& views) {
    all.push_back(std::make_unique<HostTensor>(std::move(tensor)));
    views.push_back(*all.back());
  }
  /// Products may hold anything before the first gradients, the others are zeros.
  void begin(double products) {
    for (const auto& tensor : all) fill(*tensor, 0);
    for (std::size_t i = 0; i < 2; ++i) fill(experts[i], products);
  }
  static void fill(View view, double value) {
    for (std::int64_t i = 0; i < view.size(); ++i) set_element(view, i, value);
  }
  FeedForwardViews views() const { return {dense, experts}; }
  std::vector<std::unique_ptr<HostTensor>> all;
  std::vector<View> dense, experts;
};

class ExpertRoundsTest : public ::testing::Test {
 protected:
  /// Forward and backward of `tokens` tokens, all of which choose the first experts.
  struct Run {
    Run(ExpertRoundsTest& test, ExpertExchange& exchange, std::int64_t top_k, std::int64_t tokens, bool divisible,
        bool recompute = false)
        : spec(spec_of(test.size, top_k)), load(DType::i64, {spec.experts}), auxiliary_loss(DType::f64, {1}),
          favours(DType::f64, {spec.experts}),
          layer(spec, "m", exchange, nullptr, {favours, load, auxiliary_loss, &overflow}),
          weights(layer.dense_parameters(), layer.expert_parameters(), test.rank),
          gradients(layer.dense_parameters(), layer.expert_parameters(), test.rank),
          x(random_tensor(DType::f64, {tokens, spec.hidden}, 1 + static_cast<std::uint32_t>(test.rank))) {
      Values::fill(load, 0);
      Values::fill(auxiliary_loss, 0);
      for (std::int64_t e = 0; e < spec.experts; ++e) set_element(favours, e, e < top_k ? 100 : 0);
      batch.sequences = 1;
      batch.length = tokens;
      batch.divisible = divisible;
      LayerContext ctx = test.f64;
      std::unique_ptr<FeedForwardState> state;
      output = layer.forward(ctx, weights.views(), batch, x, state);
      if (recompute) {
        layer.forget(*state);
        layer.recompute(ctx, weights.views(), x, *state);
      }
      HostTensor output_gradient = random_tensor(DType::f64, x.view().extents(), 3);
      hidden_gradient = layer.backward_input(ctx, weights.views(), output_gradient, *state);
      fill_with_nan(output_gradient);  // it was free again
      gradients.begin(poison);
      ctx.gradients_begin = true;
      layer.backward_weight(ctx, *state, gradients.views());
    }
    static void fill_with_nan(View view) { Values::fill(view, poison); }

    MoeSpec spec;
    std::optional<ExpertOverflow> overflow;
    HostTensor load, auxiliary_loss, favours;
    MoeLayer layer;
    Values weights, gradients;
    HostTensor x;
    MicroBatch batch;
    Tensor output, hidden_gradient;
  };

  void expect_unbounded_result(const std::vector<std::int64_t>& tokens_of_rank, std::int64_t top_k, double bound,
                               bool recompute) {
    SCOPED_TRACE(testing::Message() << "bound " << bound << ", top " << top_k << ", recompute " << recompute);
    const std::int64_t tokens = tokens_of_rank[static_cast<std::size_t>(rank)];
    ExpertParallel grows(world);
    ExpertParallel bounded(world, {bound, full});
    const Run expected(*this, grows, top_k, tokens, false);
    EXPECT_FALSE(expected.overflow);
    most_rows_seen = most_slots_seen = 0;
    const Run run(*this, bounded, top_k, tokens, false, recompute);
    ASSERT_TRUE(run.overflow);
    EXPECT_GT(run.overflow->rounds, 1);
    EXPECT_LE(most_rows_seen, run.overflow->most_rows);
    EXPECT_LE(most_slots_seen, run.overflow->most_slots);
    EXPECT_LE(max_difference(run.output.view(), expected.output.view()), 1e-12);
    EXPECT_LE(max_difference(run.hidden_gradient.view(), expected.hidden_gradient.view()), 1e-12);
    for (std::size_t i = 0; i < run.gradients.all.size(); ++i)
      EXPECT_LE(max_difference(run.gradients.all[i]->view(), expected.gradients.all[i]->view()), 1e-12) << i;
    EXPECT_EQ(max_difference(run.load.view(), expected.load.view()), 0);
  }

  Operators ops = noting_operators();
  Arena arena{host_memory()};
  LayerContext f64{&ops, {host_stream, &arena}, DType::f64};
  MpiCommunicator world{MpiHandle::duplicate(MPI_COMM_WORLD), arena};
  int rank = world.rank(), size = world.size();
};

TEST(ReceiveBoundTest, IsAMultipleOfTheMeanLoad) {
  // Of 4 x 12 tokens a quarter comes to each rank with one expert, 1 - (3/4)^2 = 7/16 with two.
  const auto one = ReceiveBound{1, 12}.capacity(1, 8, 4), two = ReceiveBound{2, 12}.capacity(2, 8, 4);
  EXPECT_EQ(one.rows, 12);
  EXPECT_EQ(one.slots, 12);
  EXPECT_EQ(two.rows, 42);
  EXPECT_EQ(two.slots, 48);
  // A token of each rank, with all of its experts here.
  const auto least = ReceiveBound{1, 1}.capacity(2, 8, 4);
  EXPECT_EQ(least.rows, 4);
  EXPECT_EQ(least.slots, 8);
}

TEST_F(ExpertRoundsTest, GiveWhatOnePassageGives) {
  if (size == 1) GTEST_SKIP() << "one rank cannot get more than the mean load";
  for (const double bound : {1.0, 1.5})
    for (const std::int64_t top_k : {1, 2})
      for (const bool recompute : {false, true}) expect_unbounded_result({12, 12, 12, 12}, top_k, bound, recompute);
  expect_unbounded_result({12, 11, 12, 10}, 1, 1.3, false);  // the last round is short, by rank
}

TEST_F(ExpertRoundsTest, OfRanksWithFewTokensOrNone) {
  if (size == 1) GTEST_SKIP() << "one rank cannot get more than the mean load";
  // Beyond a full micro-batch, so that the one rank's tokens are too many for another.
  for (const int busy : {0, size - 1}) {
    std::vector<std::int64_t> tokens{0, 0, 0, 0};
    tokens[static_cast<std::size_t>(busy)] = 5 * full;
    expect_unbounded_result(tokens, 1, 1, false);
    tokens[static_cast<std::size_t>(size - 1 - busy)] = 1;
    expect_unbounded_result(tokens, 2, 1, true);
  }
}

TEST_F(ExpertRoundsTest, AreAsManyAsTheTokensNeed) {
  // All tokens of a range go to rank 0, whose buffers hold 12 rows: 12 / size tokens of each rank.
  ExpertParallel exchange(world, {1, full});
  const Run run(*this, exchange, 1, full, false);
  ASSERT_EQ(run.overflow.has_value(), size > 1);
  if (!run.overflow) return;
  EXPECT_EQ(run.overflow->most_rows, 12);
  EXPECT_EQ(run.overflow->rows, rank == 0 ? 12 * size : 0);
  EXPECT_EQ(run.overflow->range, 12 / size);
  EXPECT_EQ(run.overflow->rounds, size);
}

TEST_F(ExpertRoundsTest, AreNotNeededUpToTheBound) {
  ExpertParallel exchange(world, {static_cast<double>(size), full});
  EXPECT_FALSE(Run(*this, exchange, 1, full, false).overflow);
}

/// Nothing leaves but the counts: outputs and the experts' gradients are zeros, whatever was there before.
TEST_F(ExpertRoundsTest, AreNotMadeOfADivisibleMicroBatch) {
  if (size == 1) GTEST_SKIP() << "one rank cannot get more than the mean load";
  Recording recording;
  RecordingCommunicator recorder(std::make_unique<MpiCommunicator>(MpiHandle::duplicate(MPI_COMM_WORLD), arena),
                                 "expert", recording);
  ExpertParallel exchange(recorder, {1, full});
  most_rows_seen = 0;
  const Run run(*this, exchange, 2, full, true, true);
  ASSERT_TRUE(run.overflow);
  EXPECT_EQ(run.overflow->rounds, 0);
  EXPECT_EQ(run.overflow->slots, rank == 0 ? 2 * 12 * size : 0);
  EXPECT_EQ(most_rows_seen, 0);
  for (const RecordedEvent& event : recording.events())
    EXPECT_TRUE(event.kind != RecordedEvent::Kind::initiate || event.name == "all_gather") << event.name;
  for (const View& gradient : run.gradients.experts)
    for (std::int64_t i = 0; i < gradient.size(); ++i) ASSERT_EQ(element(gradient, i), 0);
  for (std::int64_t i = 0; i < run.output.view().size(); ++i) ASSERT_TRUE(std::isfinite(element(run.output.view(), i)));
}

}  // namespace
}  // namespace moesaic
