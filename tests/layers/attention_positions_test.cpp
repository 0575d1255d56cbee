// What attention makes of positions and documents.
#include <cmath>

#include "layers/layer_fixture.hpp"
#include "moesaic/layers/attention.hpp"

namespace moesaic {
namespace {

constexpr AttentionSpec spec{.hidden = 6, .heads = 4, .key_heads = 2, .width = 4, .head_norm = true};

struct PositionsRun {
  HostTensor forward(const MicroBatch& batch, ConstView tokens) {
    std::unique_ptr<SequenceMixerState> state;
    const ParameterViews weights = parameters.weights();
    return copy_of(attention.forward(fixture.ctx, weights, batch, table, tokens, state));
  }

  LayerFixture fixture;
  LocalSequences sequences;
  Attention attention{spec, "attention", sequences};
  RotaryTable table{fixture.arena, DType::f64, 32, spec.width, 100};
  TestParameters parameters{attention.parameters(), DType::f64, 1};
};

// Only distances count: all positions moved by 7 change nothing, twice the distances do.
TEST(AttentionPositions, AreRelative) {
  TestBatch batch(2, 5);
  PositionsRun run;
  const HostTensor x = random_tensor(DType::f64, {10, spec.hidden}, 2);
  const HostTensor y = run.forward(batch.batch, x);
  for (std::int64_t t = 0; t < 10; ++t) set_element(batch.positions, t, static_cast<double>(t % 5 + 7));
  EXPECT_LT(max_difference(y, run.forward(batch.batch, x)), 1e-13);
  for (std::int64_t t = 0; t < 10; ++t) set_element(batch.positions, t, static_cast<double>(2 * (t % 5)));
  EXPECT_GT(max_difference(y, run.forward(batch.batch, x)), 1e-3);
}

TEST(AttentionPositions, DocumentsAreSequencesOfTheirOwn) {
  TestBatch packed(1, 5);
  packed.set_documents({3, 3, 1, 1, 1});
  PositionsRun run;
  const HostTensor x = random_tensor(DType::f64, {5, spec.hidden}, 2);
  const HostTensor y = run.forward(packed.batch, x);
  const auto expect_alone = [&](std::int64_t begin, std::int64_t end) {
    const TestBatch alone(1, end - begin);
    const HostTensor expected = run.forward(alone.batch, x.view().rows(begin, end));
    EXPECT_LT(max_difference(expected, y.view().rows(begin, end)), 1e-13);
  };
  expect_alone(0, 2);
  expect_alone(2, 5);
}

// Without queries all visible keys weigh the same. Values (5, 11) and (3, 9): the second token gets their mean (4, 10).
TEST(AttentionPositions, ZeroQueriesAverageThePast) {
  LayerFixture fixture;
  LocalSequences sequences;
  const Attention attention({.hidden = 2, .heads = 1, .key_heads = 1, .width = 2}, "attention", sequences);
  const RotaryTable table(fixture.arena, DType::f64, 4, 2, 100);
  TestParameters parameters(attention.parameters(), DType::f64, 1);
  const ParameterViews weights = parameters.weights();
  assign(weights[0], {0, 0, 0, 0, 6, 7, 8, 9, 1, 2, 3, 4});
  assign(weights[1], {1, 0, 0, 1});
  const TestBatch batch(1, 2);
  const HostTensor x = make_tensor(DType::f64, {2, 2}, {1, 2, 3, 0});
  std::unique_ptr<SequenceMixerState> state;
  const Tensor y = attention.forward(fixture.ctx, weights, batch.batch, table, x, state);
  const std::vector<double> expected{5, 11, 4, 10};
  for (std::int64_t i = 0; i < 4; ++i) EXPECT_NEAR(element(y, i), expected[static_cast<std::size_t>(i)], 1e-14);
}

// At one position nothing turns. Width 4 halves the product (2 log 3) * 1 of the second token's query and the first
// key; its own key is 0: weights 3/4 and 1/4 of the values 4 and 8.
TEST(AttentionPositions, ProductsAreDividedByTheRootOfTheWidth) {
  LayerFixture fixture;
  LocalSequences sequences;
  const Attention attention({.hidden = 2, .heads = 1, .key_heads = 1, .width = 4}, "attention", sequences);
  const RotaryTable table(fixture.arena, DType::f64, 4, 4, 100);
  TestParameters parameters(attention.parameters(), DType::f64, 1, 0);
  const ParameterViews weights = parameters.weights();
  set_element(weights[0], 0 * 2 + 1, 2 * std::log(3.0));  // query, first element
  set_element(weights[0], 4 * 2 + 0, 1);                  // key
  assign(weights[0].rows(8, 9), {4, 8});                  // value
  set_element(weights[1], 0, 1);
  TestBatch batch(1, 2);
  assign(batch.positions, {1, 1});
  const HostTensor x = make_tensor(DType::f64, {2, 2}, {1, 0, 0, 1});
  std::unique_ptr<SequenceMixerState> state;
  const Tensor y = attention.forward(fixture.ctx, weights, batch.batch, table, x, state);
  EXPECT_NEAR(element(y, 0), 4, 1e-14);
  EXPECT_NEAR(element(y, 2), 5, 1e-14);
}

}  // namespace
}  // namespace moesaic
