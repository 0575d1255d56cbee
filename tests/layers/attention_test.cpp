#include "moesaic/layers/attention.hpp"

#include "layers/layer_fixture.hpp"

namespace moesaic {
namespace {

/// loss = <direction, attention(x)>.
struct AttentionRun {
  AttentionRun(const AttentionSpec& spec, TestBatch& test_batch)
      : attention(spec, "attention", sequences),
        table(fixture.arena, DType::f64, 16, spec.rotary_width > 0 ? spec.rotary_width : spec.width, 100),
        batch(test_batch.batch), parameters(attention.parameters(), DType::f64, 10),
        x(random_tensor(DType::f64, {batch.tokens(), spec.hidden}, 20)),
        direction(random_tensor(DType::f64, {batch.tokens(), spec.hidden}, 30)),
        x_gradient(DType::f64, x.view().extents()) {}

  HostTensor forward() {
    std::unique_ptr<SequenceMixerState> state;
    const ParameterViews weights = parameters.weights();
    return copy_of(attention.forward(fixture.ctx, weights, batch, table, x, state));
  }
  double loss() { return inner_product(direction, forward()); }

  void backward() {
    const ParameterViews weights = parameters.weights(), gradients = parameters.gradients();
    std::unique_ptr<SequenceMixerState> state;
    attention.forward(fixture.ctx, weights, batch, table, x, state);
    HostTensor gradient = copy_of(direction);
    x_gradient = copy_of(attention.backward_input(fixture.ctx, weights, batch, table, gradient, *state));
    poison(gradient);  // it was free again
    attention.backward_weight(fixture.ctx, *state, gradients);
    fixture.expect_memory_returned();
  }

  void expect_gradients() {
    backward();
    const auto loss_function = [this] { return loss(); };
    EXPECT_LT(max_gradient_error(loss_function, x, x_gradient), 1e-6) << "input";
    parameters.expect_gradients(loss_function);
  }

  LayerFixture fixture;
  LocalSequences sequences;
  Attention attention;
  RotaryTable table;
  MicroBatch batch;
  TestParameters parameters;
  HostTensor x, direction, x_gradient;
};

TEST(Attention, DeclaresItsParameters) {
  LocalSequences sequences;
  const Attention plain({.hidden = 6, .heads = 4, .key_heads = 2, .width = 8}, "a", sequences);
  ASSERT_EQ(plain.parameters().size(), 2u);
  EXPECT_EQ(plain.parameters()[0].name, "a/query_key_value");
  EXPECT_EQ(plain.parameters()[0].shape, (Extents{(4 + 2 * 2) * 8, 6}));
  EXPECT_EQ(plain.parameters()[1].name, "a/output");
  EXPECT_EQ(plain.parameters()[1].shape, (Extents{6, 32}));
  const Attention normed({.hidden = 6, .heads = 4, .key_heads = 2, .width = 8, .head_norm = true}, "a", sequences);
  ASSERT_EQ(normed.parameters().size(), 4u);
  EXPECT_EQ(normed.parameters()[3].name, "a/key_norm");
  EXPECT_EQ(normed.parameters()[3].shape, (Extents{8}));
  EXPECT_FALSE(normed.parameters()[3].matrix);
  EXPECT_EQ(normed.parameters()[3].initialisation, Initialisation::ones);
}

TEST(Attention, BiasesAndSinksComeLastAndAreNoMatrices) {
  LocalSequences sequences;
  const AttentionSpec spec{.hidden = 6,
                           .heads = 4,
                           .key_heads = 2,
                           .width = 8,
                           .head_norm = true,
                           .bias = true,
                           .output_bias = true,
                           .sinks = true};
  const Attention all(spec, "a", sequences);
  const std::vector<ParameterSpec>& parameters = all.parameters();
  ASSERT_EQ(parameters.size(), 7u);
  EXPECT_EQ(parameters[4].name, "a/query_key_value_bias");
  EXPECT_EQ(parameters[4].shape, (Extents{64}));
  EXPECT_EQ(parameters[5].name, "a/output_bias");
  EXPECT_EQ(parameters[5].shape, (Extents{6}));
  EXPECT_EQ(parameters[6].name, "a/sinks");
  EXPECT_EQ(parameters[6].shape, (Extents{4}));
  for (std::size_t i : {4u, 5u}) EXPECT_EQ(parameters[i].initialisation, Initialisation::zeros);
  EXPECT_EQ(parameters[6].initialisation, Initialisation::normal);
  for (std::size_t i : {4u, 5u, 6u}) EXPECT_FALSE(parameters[i].matrix);
}

// Alone, a token sees itself with weight 1: y = output(value(x)). value(x) = (x1, 2 x0) = (5, 6); output adds and subtracts.
TEST(Attention, OneTokenGetsItsOwnValue) {
  TestBatch one(1, 1);
  AttentionRun run({.hidden = 2, .heads = 1, .key_heads = 1, .width = 2}, one);
  assign(run.parameters.weights()[0], {7, 8, 9, 1, 2, 3, 4, 5, 0, 1, 2, 0});
  assign(run.parameters.weights()[1], {1, 1, 1, -1});
  assign(run.x, {3, 5});
  EXPECT_EQ(elements(run.forward()), (std::vector<double>{11, -1}));
}

// With biases (.., 1, -2) of the value and (10, 20) after the output: (5 + 1, 6 - 2), 6 + 4 + 10 and 6 - 4 + 20. A sink as
// strong as the only key takes half of what it sees.
TEST(Attention, OneTokenWithBiasesAndASink) {
  TestBatch one(1, 1);
  AttentionRun run(
      {.hidden = 2, .heads = 1, .key_heads = 1, .width = 2, .bias = true, .output_bias = true, .sinks = true}, one);
  const ParameterViews weights = run.parameters.weights();
  assign(weights[0], {0, 0, 0, 0, 2, 3, 4, 5, 0, 1, 2, 0});
  assign(weights[1], {1, 1, 1, -1});
  assign(weights[2], {0, 0, 0, 0, 1, -2});
  assign(weights[3], {10, 20});
  assign(weights[4], {0});  // the query is zero, and so is the score
  assign(run.x, {3, 5});
  EXPECT_EQ(elements(run.forward()), (std::vector<double>{5 + 10, 1 + 20}));
}

TEST(Attention, GradientsWithBiasesSinksAndAWindow) {
  TestBatch two(2, 5);
  AttentionSpec spec{.hidden = 6,
                     .heads = 4,
                     .key_heads = 2,
                     .width = 4,
                     .bias = true,
                     .output_bias = true,
                     .sinks = true,
                     .window = 2};
  AttentionRun(spec, two).expect_gradients();
  spec.head_norm = true;
  two.set_documents({0, 0, 0, 1, 1, 2, 3, 3, 3, 3});
  AttentionRun(spec, two).expect_gradients();
}

// Token 1 is seen by tokens 1 and 2.
TEST(Attention, SeesItsWindowOnly) {
  TestBatch one(1, 5);
  AttentionRun run({.hidden = 4, .heads = 2, .key_heads = 1, .width = 2, .window = 2}, one);
  const HostTensor before = run.forward();
  set_element(run.x, 1 * 4, 3);
  const HostTensor after = run.forward();
  for (std::int64_t t = 0; t < 5; ++t) {
    const double change = max_difference(before.view().rows(t, t + 1), after.view().rows(t, t + 1));
    if (t == 1 || t == 2)
      EXPECT_GT(change, 0.01) << "token " << t;
    else
      EXPECT_EQ(change, 0) << "token " << t;
  }
}

TEST(Attention, GradientsOfGroupedQueries) {
  TestBatch two(2, 5);
  AttentionRun({.hidden = 6, .heads = 4, .key_heads = 2, .width = 4}, two).expect_gradients();
}

TEST(Attention, GradientsWithHeadNorms) {
  TestBatch two(2, 5);
  AttentionRun({.hidden = 6, .heads = 4, .key_heads = 2, .width = 4, .head_norm = true}, two).expect_gradients();
}

TEST(Attention, GradientsWithPartsOfHeadsRotated) {
  TestBatch two(2, 5);
  AttentionSpec spec{.hidden = 6, .heads = 4, .key_heads = 2, .width = 6, .head_norm = true};
  AttentionRun whole(spec, two);
  spec.rotary_width = 4;
  AttentionRun part(spec, two);
  part.expect_gradients();
  EXPECT_GT(max_difference(whole.forward(), part.forward()), 1e-4);
}

TEST(Attention, GradientsWithinDocuments) {
  TestBatch two(2, 5);
  two.set_documents({0, 0, 0, 1, 1, 2, 3, 3, 3, 3});
  AttentionRun({.hidden = 5, .heads = 2, .key_heads = 1, .width = 6, .head_norm = true}, two).expect_gradients();
}

// What lies in another document, or later, does not change a token's output.
TEST(Attention, SeesItsDocumentAndThePastOnly) {
  TestBatch one(1, 5);
  one.set_documents({0, 0, 1, 1, 1});
  AttentionRun run({.hidden = 4, .heads = 2, .key_heads = 1, .width = 2, .head_norm = true}, one);
  const HostTensor before = run.forward();
  for (std::int64_t t : {1, 4}) set_element(run.x, t * 4, 3);
  const HostTensor after = run.forward();
  for (std::int64_t t : {0, 2, 3}) {
    EXPECT_EQ(max_difference(before.view().rows(t, t + 1), after.view().rows(t, t + 1)), 0) << "token " << t;
  }
  for (std::int64_t t : {1, 4}) {
    EXPECT_GT(max_difference(before.view().rows(t, t + 1), after.view().rows(t, t + 1)), 0.01) << "token " << t;
  }
}

TEST(Attention, NoTokens) {
  TestBatch none(0, 5);
  AttentionRun run({.hidden = 6, .heads = 4, .key_heads = 2, .width = 4, .head_norm = true}, none);
  run.backward();
  EXPECT_EQ(run.x_gradient.view().extents(), (Extents{0, 6}));
  for (const View& gradient : run.parameters.gradients()) {
    for (double value : elements(gradient)) EXPECT_EQ(value, 0);
  }
}

}  // namespace
}  // namespace moesaic
