#include "moesaic/layers/latent_attention.hpp"

#include <cmath>

#include "layers/layer_fixture.hpp"

namespace moesaic {
namespace {

/// Queries and keys of width 3 + 2, values of width 4.
constexpr LatentAttentionSpec compressed{.hidden = 6,
                                         .heads = 3,
                                         .query_rank = 5,
                                         .key_value_rank = 4,
                                         .plain_width = 3,
                                         .rotary_width = 2,
                                         .value_width = 4,
                                         .scale = 0.7};

LatentAttentionSpec uncompressed() {
  LatentAttentionSpec spec = compressed;
  spec.query_rank = 0;
  return spec;
}

/// loss = <direction, attention(x)>.
struct LatentRun {
  LatentRun(const LatentAttentionSpec& spec, const TestBatch& test_batch)
      : attention(spec, "a", sequences), table(fixture.arena, DType::f64, 32, spec.rotary_width, 100),
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
  LatentAttention attention;
  RotaryTable table;
  MicroBatch batch;
  TestParameters parameters;
  HostTensor x, direction, x_gradient;
};

TEST(LatentAttention, DeclaresItsParameters) {
  LocalSequences sequences;
  const LatentAttention plain(uncompressed(), "a", sequences), narrow(compressed, "a", sequences);
  ASSERT_EQ(plain.parameters().size(), 4u);
  EXPECT_EQ(plain.parameters()[0].name, "a/query_key_value");
  EXPECT_EQ(plain.parameters()[0].shape, (Extents{3 * 5 + 4 + 2, 6}));
  EXPECT_EQ(plain.parameters()[2].name, "a/key_value_up");
  EXPECT_EQ(plain.parameters()[2].shape, (Extents{3 * (3 + 4), 4}));
  EXPECT_EQ(plain.parameters()[3].shape, (Extents{6, 3 * 4}));
  ASSERT_EQ(narrow.parameters().size(), 6u);
  EXPECT_EQ(narrow.parameters()[0].shape, (Extents{5 + 4 + 2, 6}));
  EXPECT_EQ(narrow.parameters()[4].name, "a/query_norm");
  EXPECT_FALSE(narrow.parameters()[4].matrix);
  EXPECT_EQ(narrow.parameters()[5].shape, (Extents{3 * 5, 5}));
}

// Alone, a token sees itself with weight 1: y = output(value(norm(c))). c = (3, 4) (the other rows do not matter), of
// which the norm makes (3, 4) / sqrt(12.5) and the second row of key_value_up 2 * 3 + 4 = 10 of that; output doubles it.
TEST(LatentAttention, OneTokenGetsItsOwnValue) {
  const TestBatch one(1, 1);
  LatentRun run({.hidden = 2, .heads = 1, .key_value_rank = 2, .plain_width = 1, .rotary_width = 2, .value_width = 1},
                one);
  const ParameterViews weights = run.parameters.weights();
  assign(weights[0], {7, 8, 9, 1, 2, 3, 1, 0, 0, 1, 5, 5, 6, 6});
  assign(weights[1], {1, 1});
  assign(weights[2], {9, 9, 2, 1});
  assign(weights[3], {2, -2});
  assign(run.x, {3, 4});
  const HostTensor y = run.forward();
  EXPECT_NEAR(element(y, 0), 20 / std::sqrt(12.5), 1e-5);  // the norm's eps
  EXPECT_NEAR(element(y, 1), -20 / std::sqrt(12.5), 1e-5);
}

TEST(LatentAttention, GradientsWithCompressedQueries) {
  const TestBatch two(2, 5);
  LatentRun(compressed, two).expect_gradients();
}

TEST(LatentAttention, GradientsWithoutCompression) {
  const TestBatch two(2, 5);
  LatentRun(uncompressed(), two).expect_gradients();
}

TEST(LatentAttention, GradientsWithinDocuments) {
  TestBatch two(2, 5);
  two.set_documents({0, 0, 0, 1, 1, 2, 3, 3, 3, 3});
  LatentAttentionSpec spec = compressed;
  spec.rotary_width = 4;
  spec.pairs = RotaryPairs::halves;
  LatentRun(spec, two).expect_gradients();
}

TEST(LatentAttention, GradientsThatBeginReplaceProducts) {
  const TestBatch two(2, 5);
  LatentRun run(compressed, two);
  run.parameters.begin_gradients();
  run.fixture.ctx.dense_gradients_begin = true;
  run.expect_gradients();
}

// Only distances count: all positions moved by 7 change nothing, twice the distances do.
TEST(LatentAttention, PositionsAreRelative) {
  TestBatch two(2, 5);
  LatentRun run(compressed, two);
  const HostTensor y = run.forward();
  for (std::int64_t t = 0; t < 10; ++t) set_element(two.positions, t, static_cast<double>(t % 5 + 7));
  EXPECT_LT(max_difference(y, run.forward()), 1e-13);
  for (std::int64_t t = 0; t < 10; ++t) set_element(two.positions, t, static_cast<double>(2 * (t % 5)));
  EXPECT_GT(max_difference(y, run.forward()), 1e-3);
}

TEST(LatentAttention, NoTokens) {
  const TestBatch none(0, 5);
  LatentRun run(compressed, none);
  run.backward();
  EXPECT_EQ(run.x_gradient.view().extents(), (Extents{0, 6}));
  for (const View& gradient : run.parameters.gradients()) {
    for (double value : elements(gradient)) EXPECT_EQ(value, 0);
  }
}

}  // namespace
}  // namespace moesaic
