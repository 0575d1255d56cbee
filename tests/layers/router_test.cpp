#include "moesaic/layers/router.hpp"

#include <cmath>
#include <limits>

#include "layers/layer_fixture.hpp"

namespace moesaic {
namespace {

/// A router on tokens (1, 0) ("a") and (0, 1) ("b"), in sequences of equal length.
struct RouterRun {
  RouterRun(const MoeSpec& moe, std::int64_t sequences, const std::string& tokens,
            const std::vector<double>& selection_bias = {})
      : batch(sequences, static_cast<std::int64_t>(tokens.size()) / sequences),
        x(DType::f64, {batch.ids.view().size(), 2}), weight(DType::f64, {moe.experts, 2}),
        bias(DType::f64, {moe.experts}), load(DType::i64, {moe.experts}), auxiliary_loss(DType::f64, {1}),
        router(moe, nullptr, {selection_bias.empty() ? View() : bias.view(), load, auxiliary_loss}) {
    for (std::size_t t = 0; t < tokens.size(); ++t)
      set_element(x, 2 * static_cast<std::int64_t>(t) + (tokens[t] == 'a' ? 0 : 1), 1);
    if (!selection_bias.empty()) assign(bias, selection_bias);
    batch.batch.balance_weight = 1;
  }
  void forward() {
    router.forward(fixture.ctx, {weight}, batch.batch, x, state);
    router.account(fixture.ctx, batch.batch, state);
  }

  LayerFixture fixture;
  TestBatch batch;
  HostTensor x, weight, bias, load, auxiliary_loss;
  Router router;
  RouterState state;
};

const double log_3 = std::log(3.0);

void expect_near(ConstView values, const std::vector<double>& expected) {
  ASSERT_EQ(values.size(), static_cast<std::int64_t>(expected.size()));
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(element(values, static_cast<std::int64_t>(i)), expected[i], 1e-14) << i;
}

// Two experts, one a token: a has probabilities (3/4, 1/4), b (1/4, 3/4).
//   aaab: f = (3/4, 1/4), P = (5/8, 3/8): 2 (3/4 5/8 + 1/4 3/8) = 9/8;   abab: f = P = (1/2, 1/2): 1.
// Together: f = (5/8, 3/8), P = (9/16, 7/16): 2 (5/8 9/16 + 3/8 7/16) = 33/32.
RouterRun two_experts(BalanceScope scope) {
  return RouterRun({.hidden = 2, .experts = 2, .top_k = 1, .balance = Balance::auxiliary, .scope = scope}, 2,
                   "aaababab");
}

TEST(Router, AuxiliaryLossBySequence) {
  RouterRun run = two_experts(BalanceScope::sequence);
  assign(run.weight, {log_3, 0, 0, log_3});
  run.batch.batch.balance_gradient = 0.5;
  run.forward();
  expect_near(run.auxiliary_loss, {9 / 8.0 + 1});
  expect_near(run.state.balance_gradient, {0.1875, 0.0625, 0.125, 0.125});  // 0.5 * 2 f / 4
  EXPECT_EQ(elements(run.load), (std::vector<double>{5, 3}));
}

TEST(Router, AuxiliaryLossByBatch) {
  RouterRun run = two_experts(BalanceScope::batch);
  assign(run.weight, {log_3, 0, 0, log_3});
  run.batch.batch.balance_gradient = 0.5;
  run.batch.batch.balance_tokens = 8;
  run.batch.batch.balance_weight = 0.25;
  run.forward();
  expect_near(run.auxiliary_loss, {0.25 * 33 / 32});
  expect_near(run.state.balance_gradient, {0.078125, 0.046875});  // 0.5 * 2 f / 8
  EXPECT_EQ(elements(run.load), (std::vector<double>{5, 3}));
}

// Four experts, two a token: a has probabilities (3, 3, 1, 1) / 8, b the reverse. aabb uses all alike; aaaa has
// f = (1/2, 1/2, 0, 0): 4 (1/2 3/8 + 1/2 3/8) = 3/2.
TEST(Router, PerfectBalanceCostsOne) {
  for (const auto& [tokens, expected] : {std::pair("aabb", 1.0), std::pair("aaaa", 1.5)}) {
    RouterRun run({.hidden = 2, .experts = 4, .top_k = 2}, 1, tokens);
    assign(run.weight, {log_3, 0, log_3, 0, 0, log_3, 0, log_3});
    run.forward();
    expect_near(run.auxiliary_loss, {expected});
  }
}

// Scores of a with the bias: (0.375, 0.425, 0.625, 0.125): experts 2 and 1, whose probabilities are 1/8 and 3/8.
TEST(Router, TheBiasChoosesAndDoesNotWeigh) {
  for (bool renormalise : {true, false}) {
    RouterRun run({.hidden = 2, .experts = 4, .top_k = 2, .renormalise = renormalise, .balance = Balance::bias}, 1, "a",
                  {0, 0.05, 0.5, 0});
    assign(run.weight, {log_3, 0, log_3, 0, 0, log_3, 0, log_3});
    run.forward();
    EXPECT_EQ(elements(run.state.routing.indices), (std::vector<double>{2, 1}));
    expect_near(run.state.routing.weights, renormalise ? std::vector{0.25, 0.75} : std::vector{0.125, 0.375});
    EXPECT_TRUE(run.state.balance_gradient.absent());
  }
}

// Equal probabilities: the first eight experts take all; with P uniform the loss is 1 whatever f is.
TEST(Router, HundredsOfEqualExperts) {
  RouterRun run({.hidden = 2, .experts = 256, .top_k = 8}, 2, "abbaab");
  run.forward();
  std::vector<double> loads(256, 0.0);
  std::fill_n(loads.begin(), 8, 6.0);
  EXPECT_EQ(elements(run.load), loads);
  expect_near(run.auxiliary_loss, {2});
}

// Slot j of position p goes to (2 p + j) mod 5; the weight of the router is not even looked at.
TEST(Router, BalancedGoesByPosition) {
  RouterRun run({.hidden = 2, .experts = 5, .top_k = 2, .balanced_router = true, .balance = Balance::auxiliary}, 1,
                "abb");
  assign(run.batch.positions, {5, 6, 1});
  poison(run.weight);
  run.forward();
  EXPECT_EQ(elements(run.state.routing.indices), (std::vector<double>{0, 1, 2, 3, 2, 3}));
  EXPECT_EQ(elements(run.state.routing.weights), std::vector<double>(6, 0.5));
  EXPECT_EQ(elements(run.load), (std::vector<double>{1, 1, 2, 2, 0}));

  HostTensor x_gradient = make_tensor(DType::f64, {3, 2}, {1, 2, 3, 4, 5, 6}), weight_gradient(DType::f64, {5, 2});
  const HostTensor weights_gradient = random_tensor(DType::f64, {3, 2}, 1);
  run.router.backward_input(run.fixture.ctx, {run.weight}, weights_gradient, x_gradient, run.state);
  run.router.backward_weight(run.fixture.ctx, run.x, run.state, {weight_gradient});
  EXPECT_EQ(elements(x_gradient), (std::vector<double>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(elements(weight_gradient), std::vector<double>(10, 0.0));
  run.fixture.expect_memory_returned();
}

}  // namespace
}  // namespace moesaic
