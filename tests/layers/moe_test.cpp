#include "moesaic/layers/moe.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "layers/feed_forward_fixture.hpp"

namespace moesaic {
namespace {

constexpr MoeSpec small{.hidden = 4, .width = 3, .experts = 5, .top_k = 2};

/// A MoE layer with its accounts, on one rank. loss = <direction, y> + balance_gradient * auxiliary loss.
struct MoeRun {
  MoeRun(const MoeSpec& moe, const MicroBatch& micro_batch, StatisticsExchange* statistics = nullptr,
         const std::vector<double>& selection_bias = {})
      : spec(moe), batch(micro_batch), bias(DType::f64, {moe.experts}), load(DType::i64, {moe.experts}),
        auxiliary_loss(DType::f64, {1}),
        layer(moe, "m", local, statistics, {selection_bias.empty() ? View() : bias.view(), load, auxiliary_loss}),
        run(fixture, layer, batch, moe.hidden) {
    batch.balance_weight = 1;
    assign(bias, std::vector<double>(static_cast<std::size_t>(moe.experts), 0.0));
    for (std::size_t i = 0; i < selection_bias.size(); ++i) bias.data<double>()[i] = selection_bias[i];
  }

  double loss() {
    set_element(auxiliary_loss, 0, 0);
    const double own = run.loss();
    const bool balanced = spec.balance == Balance::auxiliary;
    return own + (balanced ? batch.balance_gradient * element(auxiliary_loss, 0) : 0);
  }

  /// Smallest distance between the last expert chosen and the best one left out, over all tokens: the choice must not
  /// flip within a finite difference.
  double routing_margin() {
    RouterState state;
    const Router router(spec, nullptr, {bias, load, auxiliary_loss});
    const ParameterViews dense = run.dense.weights();
    router.forward(fixture.ctx, {dense[0], spec.bias ? dense[1] : View()}, batch, run.x, state);
    double margin = 1;
    for (std::int64_t t = 0; t < batch.tokens(); ++t) {
      std::vector<double> scores = elements(state.routing.probabilities.view().rows(t, t + 1));
      for (std::int64_t e = 0; e < spec.experts; ++e) scores[static_cast<std::size_t>(e)] += element(bias, e);
      std::sort(scores.rbegin(), scores.rend());
      const auto chosen = static_cast<std::size_t>(spec.top_k);
      margin = std::min(margin, scores[chosen - 1] - scores[chosen]);
    }
    return margin;
  }

  void expect_gradients() {
    ASSERT_GT(routing_margin(), 1e-3);
    run.backward();
    run.expect_gradients([this] { return loss(); });
  }

  std::vector<double> loads() { return elements(load); }

  MoeSpec spec;
  MicroBatch batch;
  LayerFixture fixture;
  LocalExperts local;
  HostTensor bias, load, auxiliary_loss;
  MoeLayer layer;
  FeedForwardRun run;
};

/// Another rank that shares the micro-batch: 3 tokens, whose slots and probabilities are always the same.
struct OtherRank : StatisticsExchange {
  void sum(View counts, View probability_sums) override {
    ++calls;
    for (std::int64_t e = 0; e < counts.size(); ++e) {
      set_element(counts, e, element(counts, e) + (e < 3 ? 2 : 0));
      set_element(probability_sums, e, element(probability_sums, e) + (e < 3 ? 0.9 : 0.15));
    }
  }
  int calls = 0;
};

TEST(MoeLayer, DeclaresItsParameters) {
  TestBatch one(1, 1);
  MoeRun moe(small, one.batch);
  ASSERT_EQ(moe.layer.dense_parameters().size(), 1u);
  EXPECT_EQ(moe.layer.dense_parameters()[0].name, "m/router");
  EXPECT_EQ(moe.layer.dense_parameters()[0].shape, (Extents{5, 4}));
  ASSERT_EQ(moe.layer.expert_parameters().size(), 2u);
  EXPECT_EQ(moe.layer.expert_parameters()[0].name, "m/experts/gate_up");
  EXPECT_EQ(moe.layer.expert_parameters()[0].shape, (Extents{5, 6, 4}));
  EXPECT_EQ(moe.layer.expert_parameters()[1].name, "m/experts/down");
  EXPECT_EQ(moe.layer.expert_parameters()[1].shape, (Extents{5, 4, 3}));
}

TEST(MoeLayer, BiasesComeLastAndAreNoMatrices) {
  TestBatch one(1, 1);
  MoeSpec spec = small;
  spec.bias = true;
  MoeRun moe(spec, one.batch);
  const std::vector<ParameterSpec> dense = moe.layer.dense_parameters(), experts = moe.layer.expert_parameters();
  ASSERT_EQ(dense.size(), 2u);
  EXPECT_EQ(dense[1].name, "m/router_bias");
  EXPECT_EQ(dense[1].shape, (Extents{5}));
  ASSERT_EQ(experts.size(), 4u);
  EXPECT_EQ(experts[2].name, "m/experts/gate_up_bias");
  EXPECT_EQ(experts[2].shape, (Extents{5, 6}));
  EXPECT_EQ(experts[3].name, "m/experts/down_bias");
  EXPECT_EQ(experts[3].shape, (Extents{5, 4}));
  for (const ParameterSpec& bias : {dense[1], experts[2], experts[3]}) {
    EXPECT_FALSE(bias.matrix) << bias.name;
    EXPECT_EQ(bias.initialisation, Initialisation::zeros) << bias.name;
  }
}

// Tokens (L, 0) and (0, L) with L = log 3 and the identity as router: probabilities (3/4, 1/4) and (1/4, 3/4), so the
// tokens go to experts 0 and 1 with weight 3/4. There gate = L, silu = 3/4 L, up = 4 L: activation 3 L^2.
TEST(MoeLayer, Literal) {
  TestBatch two(1, 2);
  MoeRun moe({.hidden = 2, .width = 1, .experts = 2, .top_k = 1, .renormalise = false}, two.batch);
  const double l = std::log(3.0);
  assign(moe.run.x, {l, 0, 0, l});
  assign(moe.run.dense.weights()[0], {1, 0, 0, 1});
  assign(moe.run.experts.weights()[0], {1, 0, 4, 0, 0, 1, 0, 4});
  assign(moe.run.experts.weights()[1], {1, 10, -1, 0});
  const HostTensor y = moe.run.forward();
  const std::vector<double> expected{2.25 * l * l, 22.5 * l * l, -2.25 * l * l, 0};
  for (std::int64_t i = 0; i < 4; ++i) EXPECT_NEAR(element(y, i), expected[static_cast<std::size_t>(i)], 1e-14);
  EXPECT_EQ(moe.loads(), (std::vector<double>{1, 1}));
  EXPECT_NEAR(element(moe.auxiliary_loss, 0), 1, 1e-15);  // both experts alike
}

// Both tokens to expert 0 with probability 3/4: f = (1, 0), P = (3/4, 1/4), loss = 2 * 3/4.
TEST(MoeLayer, AuxiliaryLossAndLoadAddUp) {
  TestBatch two(1, 2);
  MoeRun moe({.hidden = 2, .width = 1, .experts = 2, .top_k = 1}, two.batch);
  moe.batch.balance_weight = 0.5;
  const double l = std::log(3.0);
  assign(moe.run.x, {l, 0, l, 0});
  assign(moe.run.dense.weights()[0], {1, 0, 0, 1});
  moe.run.forward();
  moe.run.forward();
  EXPECT_EQ(moe.loads(), (std::vector<double>{4, 0}));
  EXPECT_NEAR(element(moe.auxiliary_loss, 0), 1.5, 1e-15);
}

// One token, both experts, the router's logits (L, 0) by its bias alone: weights 3/4 and 1/4. With alpha 0 and a limit of 2,
// y = g / 2 (u + 1): expert 0 has gate 1 + 4, cut to 2, and up 1, expert 1 gate 1 and up 0 - 3, cut to -2.
TEST(MoeLayer, LiteralWithBiasesAndAClampedUnit) {
  TestBatch one(1, 1);
  MoeSpec spec{.hidden = 2, .width = 1, .experts = 2, .top_k = 2, .bias = true};
  spec.swiglu = {.alpha = 0, .limit = 2, .up_offset = 1};
  MoeRun moe(spec, one.batch);
  assign(moe.run.x, {1, 0});
  assign(moe.run.dense.weights()[0], {0, 0, 0, 0});
  assign(moe.run.dense.weights()[1], {std::log(3.0), 0});
  assign(moe.run.experts.weights()[0], {1, 0, 1, 0, 1, 0, 0, 0});
  assign(moe.run.experts.weights()[1], {1, 0, 1, 0});
  assign(moe.run.experts.weights()[2], {4, 0, 0, -3});
  assign(moe.run.experts.weights()[3], {10, 100, 20, 200});
  const HostTensor y = moe.run.forward();
  EXPECT_NEAR(element(y, 0), 0.75 * (2.0 / 2 * 2 + 10) + 0.25 * (1.0 / 2 * -1 + 20), 1e-14);
  EXPECT_NEAR(element(y, 1), 0.75 * 100 + 0.25 * 200, 1e-13) << "biases are weighted like all that an expert gives";
}

TEST(MoeLayer, GradientsWithBiasesAndAClampedUnit) {
  TestBatch two(2, 4);
  MoeSpec spec = small;
  spec.bias = true;
  spec.swiglu = {.alpha = 1.702, .limit = 0.4, .up_offset = 1};
  spec.balance = Balance::auxiliary;
  MoeRun moe(spec, two.batch);
  moe.batch.balance_gradient = 0.1;
  moe.batch.balance_weight = 1;
  moe.expect_gradients();
}

TEST(MoeLayer, GradientsRenormalisedOrNot) {
  TestBatch two(2, 4);
  for (bool renormalise : {true, false}) {
    MoeSpec spec = small;
    spec.renormalise = renormalise;
    MoeRun(spec, two.batch).expect_gradients();
  }
}

TEST(MoeLayer, GradientsWithSequenceBalance) {
  TestBatch two(2, 4);
  MoeSpec spec = small;
  spec.balance = Balance::auxiliary;
  MoeRun moe(spec, two.batch);
  moe.batch.balance_gradient = 0.7;
  moe.expect_gradients();
}

TEST(MoeLayer, GradientsWithBatchBalance) {
  TestBatch two(2, 4);
  OtherRank other;
  MoeSpec spec = small;
  spec.balance = Balance::auxiliary;
  spec.scope = BalanceScope::batch;
  MoeRun moe(spec, two.batch, &other);
  moe.batch.balance_gradient = 0.7;
  moe.batch.balance_tokens = two.batch.tokens() + 3;
  moe.expect_gradients();
  EXPECT_GT(other.calls, 1);
}

// Of two parts of a sequence this is one: the statistics are summed with the other's, over twice as many tokens.
TEST(MoeLayer, GradientsWithBalanceOfASequenceInTwoParts) {
  TestBatch one(1, 4);
  OtherRank other;
  MoeSpec spec = small;
  spec.balance = Balance::auxiliary;
  MoeRun moe(spec, one.batch, &other);
  moe.batch.balance_gradient = 0.7;
  moe.batch.parts = 2;
  moe.expect_gradients();
  EXPECT_GT(other.calls, 1);
  moe.batch.parts = 1;  // the loss divides twice by the tokens: slots and probabilities
  assign(moe.auxiliary_loss, {0});
  moe.run.forward();
  const double uncut = element(moe.auxiliary_loss, 0);
  moe.batch.parts = 2;
  assign(moe.auxiliary_loss, {0});
  moe.run.forward();
  EXPECT_NEAR(element(moe.auxiliary_loss, 0), uncut / 4, 1e-14);
}

// In batch scope the load counts this rank's slots only: 8 tokens of 2.
TEST(MoeLayer, LoadIsThisRanks) {
  TestBatch two(2, 4);
  OtherRank other;
  MoeSpec spec = small;
  spec.scope = BalanceScope::batch;
  MoeRun moe(spec, two.batch, &other);
  moe.batch.balance_tokens = 11;
  moe.run.forward();
  const std::vector<double> loads = moe.loads();
  EXPECT_EQ(std::accumulate(loads.begin(), loads.end(), 0.0), 16);
}

TEST(MoeLayer, WithoutAuxiliaryBalanceTheLossIsAMetricOnly) {
  TestBatch two(2, 4);
  MoeSpec spec = small;
  spec.balance = Balance::bias;
  MoeRun moe(spec, two.batch);
  moe.batch.balance_gradient = 100;
  moe.expect_gradients();
  EXPECT_GT(element(moe.auxiliary_loss, 0), 1);
}

// A bias that outweighs any probability sends all tokens to experts 3 and 1; the weights know nothing of it.
TEST(MoeLayer, BiasRulesTheChoice) {
  TestBatch two(2, 4);
  MoeSpec spec = small;
  spec.balance = Balance::bias;
  MoeRun moe(spec, two.batch, nullptr, {0, 2, 0, 4, 0});
  moe.expect_gradients();
  MoeRun fresh(spec, two.batch, nullptr, {0, 2, 0, 4, 0});
  fresh.run.forward();
  EXPECT_EQ(fresh.loads(), (std::vector<double>{0, 8, 0, 8, 0}));
}

MoeSpec shared_spec() {
  MoeSpec spec = small;
  spec.scores = RouterScores::sigmoid;
  spec.scale = 2.5;
  spec.shared_width = 2;
  return spec;
}

TEST(MoeLayer, DeclaresItsSharedExpert) {
  const TestBatch one(1, 1);
  const MoeRun moe(shared_spec(), one.batch);
  const auto parameters = moe.layer.dense_parameters();
  ASSERT_EQ(parameters.size(), 3u);
  EXPECT_EQ(parameters[1].name, "m/shared/gate_up");
  EXPECT_EQ(parameters[1].shape, (Extents{4, 4}));
  EXPECT_EQ(parameters[2].name, "m/shared/down");
  EXPECT_EQ(parameters[2].shape, (Extents{4, 2}));
}

// Whatever the router says: with routed experts of zero only the shared one is left.
TEST(MoeLayer, TheSharedExpertIsADenseFeedForwardBeside) {
  const TestBatch two(2, 4);
  MoeRun moe(shared_spec(), two.batch);
  const View down = moe.run.experts.weights()[1];
  assign(down, std::vector<double>(static_cast<std::size_t>(down.size()), 0.0));
  LayerFixture fixture;
  const DenseFeedForward dense(4, 2, "d");
  const ParameterViews all = moe.run.dense.weights(), weights{all[1], all[2]};
  std::unique_ptr<FeedForwardState> state;
  const Tensor expected = dense.forward(fixture.ctx, {weights, {}}, two.batch, moe.run.x, state);
  EXPECT_EQ(max_difference(moe.run.forward(), expected), 0);
}

TEST(MoeLayer, GradientsWithASharedExpert) {
  const TestBatch two(2, 4);
  MoeSpec spec = shared_spec();
  for (const Balance balance : {Balance::none, Balance::auxiliary}) {
    spec.balance = balance;
    MoeRun moe(spec, two.batch);
    moe.batch.balance_gradient = 0.7;
    moe.expect_gradients();
  }
}

TEST(MoeLayer, GradientsWithGroupsOfExperts) {
  const TestBatch two(2, 4);
  MoeSpec spec = shared_spec();
  spec.experts = 8;
  spec.groups = 4;
  spec.top_groups = 2;
  spec.selection_bias = true;
  MoeRun moe(spec, two.batch, nullptr, {0.1, 0, 0, -0.2, 0, 0.3, 0, 0});
  moe.run.backward();
  moe.run.expect_gradients([&] { return moe.loss(); });
}

TEST(MoeLayer, NoTokensWithASharedExpert) {
  const TestBatch none(0, 4);
  MoeRun moe(shared_spec(), none.batch);
  moe.run.backward();
  for (double value : elements(moe.run.dense.gradients()[1])) EXPECT_EQ(value, 0);
}

TEST(MoeLayer, AllTokensToOneExpert) {
  TestBatch two(2, 4);
  MoeSpec spec = small;
  spec.top_k = 1;
  spec.renormalise = false;
  MoeRun moe(spec, two.batch, nullptr, {0, 0, 9, 0, 0});
  moe.expect_gradients();
  for (std::int64_t e : {0, 1, 3, 4}) {
    for (double value : elements(moe.run.experts.gradients()[0].rows(e, e + 1))) EXPECT_EQ(value, 0);
  }
}

TEST(MoeLayer, NoTokensStillExchangeStatistics) {
  TestBatch none(0, 4);
  OtherRank other;
  MoeSpec spec = small;
  spec.balance = Balance::auxiliary;
  spec.scope = BalanceScope::batch;
  MoeRun moe(spec, none.batch, &other);
  moe.batch.balance_tokens = 3;
  moe.run.backward();
  EXPECT_EQ(other.calls, 1);
  // f = 1/3, P = 0.3 of the first three experts: 5 * 3 * 0.1.
  EXPECT_NEAR(element(moe.auxiliary_loss, 0), 1.5, 1e-14);
  for (double value : elements(moe.run.dense.gradients()[0])) EXPECT_EQ(value, 0);
}

TEST(MoeLayer, NoSequences) {
  TestBatch none(0, 4);
  MoeSpec spec = small;
  spec.balance = Balance::auxiliary;
  MoeRun moe(spec, none.batch);
  moe.run.backward();
  EXPECT_EQ(element(moe.auxiliary_loss, 0), 0);
  EXPECT_EQ(moe.loads(), std::vector<double>(5, 0.0));
}

// Positions 0..3 with 2 slots of 5 experts: 0 1 | 2 3 | 4 0 | 1 2, twice; the router learns nothing.
TEST(MoeLayer, BalancedRouter) {
  TestBatch two(2, 4);
  MoeSpec spec = small;
  spec.balanced_router = true;
  MoeRun moe(spec, two.batch);
  moe.run.backward();
  EXPECT_EQ(moe.loads(), (std::vector<double>{4, 4, 4, 2, 2}));
  EXPECT_EQ(element(moe.auxiliary_loss, 0), 0);
  for (double value : elements(moe.run.dense.gradients()[0])) EXPECT_EQ(value, 0);
  moe.run.expect_gradients([&] { return moe.run.loss(); });
}

}  // namespace
}  // namespace moesaic
