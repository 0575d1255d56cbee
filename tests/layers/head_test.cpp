#include "moesaic/layers/head.hpp"

#include <cmath>

#include "layers/layer_fixture.hpp"
#include "moesaic/layers/embedding.hpp"

namespace moesaic {
namespace {

constexpr std::int64_t vocabulary = 11, hidden = 5;

std::vector<ParameterSpec> parameters_of(const ModelBlock& block) {
  std::vector<ParameterSpec> all;
  for (const UnitSpec& unit : block.units()) all.insert(all.end(), unit.parameters.begin(), unit.parameters.end());
  return all;
}

/// The flat views of parameters_of, unit by unit.
BlockViews by_unit(const ModelBlock& block, const ParameterViews& flat) {
  BlockViews views;
  auto next = flat.begin();
  for (const UnitSpec& unit : block.units()) {
    const auto end = next + static_cast<std::ptrdiff_t>(unit.parameters.size());
    views.emplace_back(next, end);
    next = end;
  }
  return views;
}

/// Embedding and head alone: a model of zero layers. Tied, both read the embedding's values and keep gradients of their own.
struct EndsRun {
  EndsRun(bool tied, const MicroBatch& micro_batch)
      : embedding(vocabulary, hidden), head(vocabulary, hidden, 1e-6, tied), batch(micro_batch),
        table(parameters_of(embedding), DType::f64, 1), head_parameters(parameters_of(head), DType::f64, 2) {}

  BlockViews head_weights() {
    BlockViews views = by_unit(head, head_parameters.weights());
    if (views.size() > 1) views[1] = table.weights();
    return views;
  }
  HeadState& forward() {
    Tensor x = embedding.forward(fixture.ctx, {table.weights()}, batch, {}, embedding_state);
    EXPECT_TRUE(head.forward(fixture.ctx, head_weights(), batch, std::move(x), head_state).absent());
    return static_cast<HeadState&>(*head_state);
  }
  double loss() { return batch.loss_scale * element(forward().loss_sum, 0); }

  void backward() {
    forward();
    Tensor gradient = head.backward_input(fixture.ctx, head_weights(), batch, *head_state, {});
    EXPECT_TRUE(embedding.backward_input(fixture.ctx, {}, batch, *embedding_state, std::move(gradient)).absent());
    head.backward_weight(fixture.ctx, batch, *head_state, by_unit(head, head_parameters.gradients()));
    embedding.backward_weight(fixture.ctx, batch, *embedding_state, {table.gradients()});
  }

  LayerFixture fixture;
  EmbeddingBlock embedding;
  HeadBlock head;
  MicroBatch batch;
  TestParameters table, head_parameters;
  std::unique_ptr<BlockState> embedding_state, head_state;
};

TEST(HeadBlock, DeclaresItsUnits) {
  const HeadBlock own(vocabulary, hidden, 1e-6, false), tied(vocabulary, hidden, 1e-6, true);
  ASSERT_EQ(own.units().size(), 1u);
  EXPECT_EQ(own.units()[0].name, "head");
  ASSERT_EQ(own.units()[0].parameters.size(), 2u);
  EXPECT_EQ(own.units()[0].parameters[0].name, "head/norm");
  EXPECT_EQ(own.units()[0].parameters[1].name, "head/weight");
  ASSERT_EQ(tied.units().size(), 2u);
  ASSERT_EQ(tied.units()[0].parameters.size(), 1u);
  EXPECT_EQ(tied.units()[1].name, "head_table");
  EXPECT_EQ(tied.units()[1].tied_to, "embedding");
  EXPECT_EQ(tied.units()[1].parameters[0].name, "embedding/weight");
  EXPECT_EQ(tied.units()[1].parameters[0].shape, (Extents{vocabulary, hidden}));
}

// Equal logits: every counted label costs log(vocabulary), the one that is not counted nothing.
TEST(HeadBlock, UniformLogitsCostTheLogarithmOfTheVocabulary) {
  TestBatch three(1, 3);
  EndsRun run(false, three.batch);
  assign(three.labels, {4, -1, 0});
  assign(run.head_parameters.weights()[1], std::vector<double>(vocabulary * hidden, 0.0));
  const HeadState& state = run.forward();
  EXPECT_NEAR(element(state.losses, 0), std::log(11.0), 1e-14);
  EXPECT_EQ(element(state.losses, 1), 0);
  EXPECT_NEAR(element(state.loss_sum, 0), 2 * std::log(11.0), 1e-14);
  EXPECT_EQ(state.logits.view().extents(), (Extents{3, vocabulary}));
}

TEST(HeadBlock, Gradients) {
  TestBatch batch(2, 4);
  batch.batch.loss_scale = 0.3;
  EndsRun run(false, batch.batch);
  run.backward();
  const auto loss = [&] { return run.loss(); };
  run.table.expect_gradients(loss);
  run.head_parameters.expect_gradients(loss);
}

TEST(HeadBlock, TiedGradientsAddUp) {
  TestBatch batch(2, 4);
  batch.batch.loss_scale = 0.3;
  EndsRun run(true, batch.batch);
  run.backward();
  const auto loss = [&] { return run.loss(); };
  EXPECT_LT(max_gradient_error(loss, run.head_parameters.weights()[0], run.head_parameters.gradients()[0]), 1e-6);
  const View total = run.table.gradients()[0], second = run.head_parameters.gradients()[1];
  for (std::int64_t i = 0; i < total.size(); ++i) set_element(total, i, element(total, i) + element(second, i));
  run.table.expect_gradients(loss);
}

TEST(HeadBlock, MemoryComesBack) {
  TestBatch batch(2, 4);
  EndsRun run(false, batch.batch);
  run.backward();
  // Only the losses (8 tokens) and their sum are left: two pieces of 256 bytes.
  EXPECT_EQ(run.fixture.arena.used(Label::activations), 512);
  run.head_state.reset();
  run.fixture.expect_memory_returned();
}

TEST(HeadBlock, NoTokens) {
  TestBatch none(0, 4);
  EndsRun run(false, none.batch);
  run.backward();
  EXPECT_EQ(element(static_cast<HeadState&>(*run.head_state).loss_sum, 0), 0);
  for (double value : elements(run.head_parameters.gradients()[1])) EXPECT_EQ(value, 0);
}

}  // namespace
}  // namespace moesaic
