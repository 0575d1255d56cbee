#include "moesaic/kernels/router.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "support/finite_difference.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

const OperatorContext context;

struct Routing {
  HostTensor probabilities, indices, weights;
};

Routing route(const RouterOptions& options, ConstView logits, ConstView bias = {}) {
  const std::int64_t tokens = logits.extent(0);
  Routing routing{HostTensor(logits.dtype(), {tokens, logits.extent(1)}),
                  HostTensor(DType::i32, {tokens, options.top_k}), HostTensor(logits.dtype(), {tokens, options.top_k})};
  poison(routing.probabilities);
  assign(routing.indices, std::vector<double>(static_cast<std::size_t>(tokens * options.top_k), -77));
  poison(routing.weights);
  reference::router_forward(context, options, logits, bias, routing.probabilities, routing.indices, routing.weights, {},
                            {});
  return routing;
}

/// Logits whose softmax is (1, 4, 3, 2) / 10.
HostTensor four_experts() {
  return make_tensor(DType::f64, {1, 4}, {std::log(1.0), std::log(4.0), std::log(3.0), std::log(2.0)});
}

void expect_near(ConstView actual, const std::vector<double>& expected) {
  ASSERT_EQ(actual.size(), static_cast<std::int64_t>(expected.size()));
  for (std::int64_t i = 0; i < actual.size(); ++i) {
    EXPECT_NEAR(element(actual, i), expected[static_cast<std::size_t>(i)], 1e-14) << i;
  }
}

TEST(Router, LiteralsOfFourExperts) {
  const Routing plain = route({.top_k = 2, .renormalise = false}, four_experts());
  expect_near(plain.probabilities, {0.1, 0.4, 0.3, 0.2});
  EXPECT_EQ(elements(plain.indices), (std::vector<double>{1, 2}));
  expect_near(plain.weights, {0.4, 0.3});
  expect_near(route({.top_k = 2, .renormalise = true}, four_experts()).weights, {4.0 / 7, 3.0 / 7});
}

TEST(Router, BiasSelectsButDoesNotWeigh) {
  const HostTensor bias = make_tensor(DType::f64, {4}, {0.35, 0, -1, 0});
  const Routing routing = route({.top_k = 2, .renormalise = false}, four_experts(), bias);
  EXPECT_EQ(elements(routing.indices), (std::vector<double>{0, 1}));
  expect_near(routing.weights, {0.1, 0.4});
}

/// Logits whose sigmoid is `scores`.
HostTensor logits_of(const std::vector<double>& scores) {
  std::vector<double> logits;
  for (const double s : scores) logits.push_back(std::log(s / (1 - s)));
  return make_tensor(DType::f64, {1, static_cast<std::int64_t>(scores.size())}, logits);
}

TEST(Router, SigmoidScoresEachExpertAlone) {
  RouterOptions options{.top_k = 2, .renormalise = false, .scores = RouterScores::sigmoid, .scale = 2.5};
  const HostTensor logits = logits_of({0.5, 0.2, 0.75, 0.25});
  const Routing plain = route(options, logits);
  expect_near(plain.probabilities, {0.5, 0.2, 0.75, 0.25});
  EXPECT_EQ(elements(plain.indices), (std::vector<double>{2, 0}));
  expect_near(plain.weights, {2.5 * 0.75, 2.5 * 0.5});
  options.renormalise = true;
  expect_near(route(options, logits).weights, {2.5 * 0.6, 2.5 * 0.4});
}

// Groups of two with sums 1.0, 1.2, 1.05 and 0.4: the best expert of all is in none of the best two.
TEST(Router, ChoosesWithinTheGroupsWhoseTwoBestAreLargest) {
  const HostTensor logits = logits_of({0.9, 0.1, 0.6, 0.6, 0.5, 0.55, 0.2, 0.2});
  RouterOptions options{.top_k = 3, .scores = RouterScores::sigmoid, .groups = 4, .top_groups = 2};
  EXPECT_EQ(elements(route(options, logits).indices), (std::vector<double>{2, 3, 5}));
  const HostTensor bias = make_tensor(DType::f64, {8}, {0, 0, 0, 0, 0, 0, 0, 0.9});  // the last group: 1.3
  EXPECT_EQ(elements(route(options, logits, bias).indices), (std::vector<double>{7, 2, 3}));
  options.top_groups = 4;
  EXPECT_EQ(elements(route(options, logits).indices), (std::vector<double>{0, 2, 3}));
  options.groups = options.top_groups = 8;  // one expert each
  EXPECT_EQ(elements(route(options, logits).indices), (std::vector<double>{0, 2, 3}));
}

// Sums 1.2, 1.1 and 1.5 of the two best of three; a third expert does not count. Equal groups: the lower index.
TEST(Router, AGroupIsItsTwoBest) {
  const RouterOptions options{.top_k = 2, .scores = RouterScores::sigmoid, .groups = 3, .top_groups = 1};
  const HostTensor logits = logits_of({0.6, 0.59, 0.6, 0.55, 0.55, 0.54, 0.7, 0.01, 0.8});
  EXPECT_EQ(elements(route(options, logits).indices), (std::vector<double>{8, 6}));
  const HostTensor equal = logits_of({0.1, 0.2, 0.1, 0.2, 0.1, 0.1, 0.2, 0.1, 0.1});
  EXPECT_EQ(elements(route(options, equal).indices), (std::vector<double>{1, 0}));
}

TEST(Router, NotANumberKeepsIndicesWithinTheGroups) {
  HostTensor logits = random_tensor(DType::f32, {3, 12}, 3);
  for (std::int64_t e = 0; e < 12; ++e) logits.data<float>()[e] = std::numeric_limits<float>::quiet_NaN();
  const Routing routing = route({.top_k = 4, .scores = RouterScores::sigmoid, .groups = 4, .top_groups = 2}, logits);
  EXPECT_EQ(elements(routing.indices.view().rows(0, 1)), (std::vector<double>{0, 1, 2, 3}));
}

TEST(Router, EqualProbabilitiesTakeTheLowerIndexFirst) {
  const Routing all = route({.top_k = 3}, make_tensor(DType::f32, {1, 5}, {1, 1, 1, 1, 1}));
  EXPECT_EQ(elements(all.indices), (std::vector<double>{0, 1, 2}));
  const Routing some = route({.top_k = 4}, make_tensor(DType::f32, {1, 6}, {0, 2, 1, 2, 1, 2}));
  EXPECT_EQ(elements(some.indices), (std::vector<double>{1, 3, 5, 2}));
}

TEST(Router, ProbabilitiesMayOverwriteTheLogits) {
  HostTensor logits = random_tensor(DType::f32, {131, 37}, 1, 4);
  const RouterOptions options{.top_k = 5};
  const Routing expected = route(options, logits);
  HostTensor indices(DType::i32, {131, 5}), weights(DType::f32, {131, 5});
  reference::router_forward(context, options, logits, {}, logits, indices, weights, {}, {});
  EXPECT_EQ(max_difference(logits, expected.probabilities), 0);
  EXPECT_EQ(max_difference(indices, expected.indices), 0);
  EXPECT_EQ(max_difference(weights, expected.weights), 0);
}

TEST(Router, ChoosesTheLargestOfHundreds) {
  for (const std::int64_t tokens : {0, 1, 131, 1025}) {
    const Routing routing = route({.top_k = 8}, random_tensor(DType::f32, {tokens, 384}, 2, 8));
    for (std::int64_t t = 0; t < tokens; ++t) {
      const auto row = elements(routing.probabilities.view().rows(t, t + 1));
      std::set<std::pair<double, double>> order;
      for (std::size_t e = 0; e < row.size(); ++e) order.insert({-row[e], static_cast<double>(e)});
      auto best = order.begin();
      double sum = 0;
      for (std::int64_t j = 0; j < 8; ++j, ++best) {
        ASSERT_EQ(element(routing.indices, 8 * t + j), best->second);
        sum += element(routing.weights, 8 * t + j);
      }
      EXPECT_NEAR(sum, 1, 1e-6);
    }
  }
}

TEST(Router, CountsWhatItChooses) {
  for (const RouterScores scores : {RouterScores::softmax, RouterScores::sigmoid}) {
    const HostTensor logits = random_tensor(DType::f64, {12, 5}, 4);
    const RouterOptions options{.top_k = 2, .scores = scores};
    const Routing routing = route(options, logits);
    HostTensor probabilities(DType::f64, {12, 5}), indices(DType::i32, {12, 2}), weights(DType::f64, {12, 2});
    HostTensor counts(DType::i64, {3, 5}), sums(DType::f64, {3, 5});
    HostTensor expected_counts(DType::i64, {3, 5}), expected_sums(DType::f64, {3, 5});
    reference::router_statistics(context, scores, routing.probabilities, routing.indices, expected_counts,
                                 expected_sums);
    reference::router_forward(context, options, logits, {}, probabilities, indices, weights, counts, sums);
    EXPECT_EQ(max_difference(indices, routing.indices), 0);
    EXPECT_EQ(max_difference(counts, expected_counts), 0);
    EXPECT_EQ(max_difference(sums, expected_sums), 0);
  }
}

TEST(Router, AllExpertsCanBeChosen) {
  const Routing routing = route({.top_k = 4, .renormalise = false}, four_experts());
  EXPECT_EQ(elements(routing.indices), (std::vector<double>{1, 2, 3, 0}));
}

TEST(Router, NotANumberKeepsIndicesWithinRange) {
  HostTensor logits = random_tensor(DType::f32, {3, 131}, 3);
  logits.data<float>()[5] = std::numeric_limits<float>::quiet_NaN();
  logits.data<float>()[131] = std::numeric_limits<float>::infinity();
  const Routing routing = route({.top_k = 4}, logits);
  for (std::int64_t t = 0; t < 3; ++t) {
    const auto row = elements(routing.indices.view().rows(t, t + 1));
    EXPECT_EQ(std::set<double>(row.begin(), row.end()).size(), 4);
    for (const double expert : row) EXPECT_TRUE(expert >= 0 && expert < 131);
  }
  EXPECT_TRUE(std::isnan(element(routing.probabilities, 0))) << "what is wrong stays visible";
}

/// What the balancing loss sees of probability `i` of [tokens, experts]: for sigmoid its share of the token's scores.
double share_of(const RouterOptions& options, ConstView probabilities, std::int64_t i) {
  if (options.scores == RouterScores::softmax) return element(probabilities, i);
  const std::int64_t experts = probabilities.extent(1), first = i / experts * experts;
  double sum = 0;
  for (std::int64_t e = 0; e < experts; ++e) sum += element(probabilities, first + e);
  return element(probabilities, i) / sum;
}

/// Loss <weights, w> + <balance of the token's group, shares>; the choice of experts stays as it is for small steps.
void check_gradient(const RouterOptions& options, bool balanced, std::int64_t tokens, std::int64_t experts) {
  HostTensor logits = random_tensor(DType::f64, {tokens, experts}, 4, 2);
  const HostTensor bias = random_tensor(DType::f64, {experts}, 5, 0.25);
  const HostTensor weights_gradient = random_tensor(DType::f64, {tokens, options.top_k}, 6);
  const HostTensor balance = random_tensor(DType::f64, {2, experts}, 7);
  const auto loss = [&] {
    const Routing routing = route(options, logits, bias);
    double sum = inner_product(weights_gradient, routing.weights);
    for (std::int64_t i = 0; balanced && i < tokens * experts; ++i) {
      const std::int64_t group = i / experts / (tokens / 2);
      sum += share_of(options, routing.probabilities, i) * element(balance, group * experts + i % experts);
    }
    return sum;
  };
  const Routing routing = route(options, logits, bias);
  HostTensor gradient(DType::f64, {tokens, experts});
  poison(gradient);
  reference::router_backward(context, options, routing.probabilities, routing.indices, weights_gradient,
                             balanced ? balance.view() : ConstView(), gradient);
  EXPECT_LT(max_gradient_error(loss, logits, gradient), 1e-6);
}

TEST(RouterBackward, AgreesWithFiniteDifferences) {
  for (const RouterScores scores : {RouterScores::softmax, RouterScores::sigmoid}) {
    for (const bool renormalise : {false, true}) {
      for (const bool balanced : {false, true}) {
        RouterOptions options{.top_k = 3, .renormalise = renormalise, .scores = scores};
        check_gradient(options, balanced, 4, 11);
        options.groups = 5;
        options.top_groups = 2;
        options.scale = 2.5;
        check_gradient(options, balanced, 4, 20);
        options = {.top_k = 8, .renormalise = renormalise, .scores = scores};
        check_gradient(options, balanced, 2, 131);
      }
    }
  }
  check_gradient({.top_k = 1, .renormalise = false}, true, 6, 3);
}

TEST(RouterBackward, RenormalisedSingleExpertHasNoGradient) {
  const RouterOptions options{.top_k = 1, .renormalise = true};
  const Routing routing = route(options, four_experts());
  HostTensor gradient(DType::f64, {1, 4});
  poison(gradient);
  reference::router_backward(context, options, routing.probabilities, routing.indices,
                             make_tensor(DType::f64, {1, 1}, {3}), {}, gradient);
  EXPECT_EQ(elements(gradient), (std::vector<double>{0, 0, 0, 0}));
}

TEST(RouterStatistics, CountsAndSumsEachGroup) {
  const HostTensor probabilities = make_tensor(DType::f64, {4, 2}, {0.25, 0.75, 0.5, 0.5, 1, 0, 1, 0});
  const HostTensor indices = make_tensor(DType::i32, {4, 1}, {1, 0, 0, 0});
  HostTensor counts(DType::i64, {2, 2}), sums(DType::f64, {2, 2});
  poison(sums);
  assign(counts, {-7, -7, -7, -7});
  reference::router_statistics(context, RouterScores::softmax, probabilities, indices, counts, sums);
  EXPECT_EQ(elements(counts), (std::vector<double>{1, 1, 2, 0}));
  EXPECT_EQ(elements(sums), (std::vector<double>{0.75, 1.25, 2, 0}));
}

// Sigmoid scores need not sum to 1: (0.5, 1.5) and (0.25, 0.25) count as (0.25, 0.75) and (0.5, 0.5).
TEST(RouterStatistics, SigmoidScoresCountAsShares) {
  const HostTensor scores = make_tensor(DType::f64, {2, 2}, {0.5, 1.5, 0.25, 0.25});
  const HostTensor indices = make_tensor(DType::i32, {2, 1}, {1, 0});
  HostTensor counts(DType::i64, {1, 2}), sums(DType::f64, {1, 2});
  reference::router_statistics(context, RouterScores::sigmoid, scores, indices, counts, sums);
  EXPECT_EQ(elements(counts), (std::vector<double>{1, 1}));
  EXPECT_EQ(elements(sums), (std::vector<double>{0.75, 1.25}));
}

TEST(RouterStatistics, NoTokensCountNothing) {
  HostTensor counts = make_tensor(DType::i64, {1, 3}, {5, 5, 5}), sums(DType::f32, {1, 3});
  poison(sums);
  reference::router_statistics(context, RouterScores::softmax, HostTensor(DType::f32, {0, 3}),
                               HostTensor(DType::i32, {0, 2}), counts, sums);
  EXPECT_EQ(elements(counts), (std::vector<double>{0, 0, 0}));
  EXPECT_EQ(elements(sums), (std::vector<double>{0, 0, 0}));
}

struct Balance {
  HostTensor loss, gradient;
};

Balance balance(ConstView counts, ConstView sums, std::int64_t tokens, std::int64_t top_k, double scale) {
  Balance result{HostTensor(sums.dtype(), {1}), HostTensor(sums.dtype(), {sums.extent(0), sums.extent(1)})};
  poison(result.loss);
  poison(result.gradient);
  reference::balance_loss(context, counts, sums, tokens, top_k, scale, result.loss, result.gradient);
  return result;
}

TEST(BalanceLoss, IsOneAGroupWhenBalancedAndGrowsToTheExperts) {
  const HostTensor even = make_tensor(DType::i64, {2, 4}, {2, 2, 2, 2, 2, 2, 2, 2});
  const HostTensor even_sums = make_tensor(DType::f64, {2, 4}, {1, 1, 1, 1, 1, 1, 1, 1});
  EXPECT_DOUBLE_EQ(element(balance(even, even_sums, 4, 2, 1).loss, 0), 2);
  const HostTensor one = make_tensor(DType::i64, {1, 4}, {4, 0, 0, 0});
  const HostTensor one_sums = make_tensor(DType::f64, {1, 4}, {4, 0, 0, 0});
  const Balance worst = balance(one, one_sums, 4, 1, 0.5);
  EXPECT_DOUBLE_EQ(element(worst.loss, 0), 4);
  EXPECT_EQ(elements(worst.gradient), (std::vector<double>{0.5, 0, 0, 0}));
}

TEST(BalanceLoss, NoTokensCostNothing) {
  const Balance none = balance(HostTensor(DType::i64, {1, 2}), HostTensor(DType::f32, {1, 2}), 0, 2, 1);
  EXPECT_EQ(element(none.loss, 0), 0);
  EXPECT_EQ(elements(none.gradient), (std::vector<double>{0, 0}));
}

TEST(BalanceLoss, GradientAgreesWithFiniteDifferences) {
  HostTensor counts(DType::i64, {3, 131});
  fill_random_integers(counts, 8, 0, 9);
  HostTensor sums = random_tensor(DType::f64, {3, 131}, 9);
  const double scale = 0.125;
  // One token's probability enters its expert's sum with factor 1.
  const auto loss = [&] { return scale * element(balance(counts, sums, 77, 8, scale).loss, 0); };
  EXPECT_LT(max_gradient_error(loss, sums, balance(counts, sums, 77, 8, scale).gradient), 1e-6);
}

TEST(BalanceLoss, ReachesTheLogitsThroughTheRouter) {
  for (const RouterScores scores : {RouterScores::softmax, RouterScores::sigmoid}) {
    const RouterOptions options{.top_k = 2, .scores = scores};
    HostTensor logits = random_tensor(DType::f64, {6, 5}, 10, 2), gradient(DType::f64, {6, 5});
    HostTensor counts(DType::i64, {2, 5}), sums(DType::f64, {2, 5});
    const auto run = [&] {
      const Routing routing = route(options, logits);
      reference::router_statistics(context, scores, routing.probabilities, routing.indices, counts, sums);
      return balance(counts, sums, 3, 2, 1);
    };
    const Balance result = run();
    const Routing routing = route(options, logits);
    reference::router_backward(context, options, routing.probabilities, routing.indices, HostTensor(DType::f64, {6, 2}),
                               result.gradient, gradient);
    EXPECT_LT(max_gradient_error([&] { return element(run().loss, 0); }, logits, gradient), 1e-6);
  }
}

TEST(BalancedRouting, GoesRound) {
  HostTensor indices(DType::i32, {4, 2}), weights(DType::f32, {4, 2});
  poison(weights);
  reference::balanced_routing(context, make_tensor(DType::i32, {4}, {0, 1, 2, 3}), 3, indices, weights);
  EXPECT_EQ(elements(indices), (std::vector<double>{0, 1, 2, 0, 1, 2, 0, 1}));
  EXPECT_EQ(elements(weights), std::vector<double>(8, 0.5));
}

}  // namespace
}  // namespace moesaic
