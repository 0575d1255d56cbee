#include "moesaic/layers/prediction_head.hpp"

#include "layers/transformer_block_fixture.hpp"

namespace moesaic {
namespace {

constexpr std::int64_t vocabulary = 11, hidden = 6;
constexpr AttentionSpec attention{.hidden = hidden, .heads = 2, .key_heads = 1, .width = 4, .head_norm = true};
constexpr MoeSpec moe{.hidden = hidden, .width = 3, .experts = 4, .top_k = 2, .balance = Balance::auxiliary};

/// A head with a prediction over hidden states that are varied like parameters.
class PredictionHeadTest : public testing::Test {
 protected:
  PredictionHeadTest()
      : head(vocabulary, hidden, 1e-6,
             make_sparse_block(7, attention, moe, table, sequences, local, {{}, load, auxiliary_loss})) {
    std::uint32_t seed = 1;
    for (const UnitSpec& unit : head.units()) units.emplace_back(unit.parameters, DType::f64, seed += 100);
    batch.set_documents({0, 0, 1, 1, 1, 2, 2, 2, 2, 2});
    MicroBatch& micro = batch.batch;
    micro.predicts = true;
    micro.next_ids = next_ids.view();
    micro.next_labels = next_labels.view();
    micro.loss_scale = 0.125;
    micro.prediction_scale = 0.05;
    fill_random_integers(next_ids, 3, 0, vocabulary - 1);
    fill_random_integers(next_labels, 4, -1, vocabulary - 1);
  }

  BlockViews views(ParameterViews (TestParameters::*kind)()) {
    BlockViews all;
    for (TestParameters& unit : units) all.push_back((unit.*kind)());
    return all;
  }
  PredictionHeadState& forward() {
    Tensor x = activation_of(fixture.ctx, input);
    EXPECT_TRUE(head.forward(fixture.ctx, views(&TestParameters::weights), batch.batch, std::move(x), state).absent());
    return static_cast<PredictionHeadState&>(*state);
  }
  double loss() {
    const PredictionHeadState& made = forward();
    const double more = made.prediction.loss_sum.absent() ? 0 : element(made.prediction.loss_sum, 0);
    return batch.batch.loss_scale * element(made.loss_sum, 0) + batch.batch.prediction_scale * more;
  }
  /// Returns the gradient of the input.
  HostTensor backward() {
    forward();
    const Tensor gradient = head.backward_input(fixture.ctx, views(&TestParameters::weights), batch.batch, *state, {});
    head.backward_weight(fixture.ctx, batch.batch, *state, views(&TestParameters::gradients));
    return copy_of(gradient);
  }

  LayerFixture fixture;
  TestBatch batch{2, 5, vocabulary};
  RotaryTable table{fixture.arena, DType::f64, 16, attention.width, 100};
  LocalSequences sequences;
  LocalExperts local;
  HostTensor load{DType::i64, {moe.experts}}, auxiliary_loss{DType::f64, {1}};
  HostTensor next_ids{DType::i32, {10}}, next_labels{DType::i32, {10}};
  PredictionHead head;
  std::vector<TestParameters> units;
  HostTensor input = random_tensor(DType::f64, {10, hidden}, 9, 1);
  std::unique_ptr<BlockState> state;
};

TEST_F(PredictionHeadTest, GradientsAreThoseOfBothLosses) {
  for (const Recompute recompute : {Recompute::none, Recompute::block, Recompute::selective}) {
    fixture.ctx.recompute = recompute;
    for (TestParameters& unit : units)
      for (const View& gradient : unit.gradients()) fixture.ctx.ops->fill(fixture.ctx.on, 0, gradient);
    const HostTensor gradient = backward();
    const auto total = [this] { return loss(); };
    EXPECT_LT(max_gradient_error(total, input, gradient), 1e-6);
    for (TestParameters& unit : units) unit.expect_gradients(total);
  }
}

/// The head's table has a product of each loss.
TEST_F(PredictionHeadTest, GradientsThatBeginReplaceProducts) {
  backward();
  std::vector<std::vector<double>> added;
  for (TestParameters& unit : units) {
    for (const View& gradient : unit.gradients()) added.push_back(elements(gradient));
    unit.begin_gradients();
  }
  fixture.ctx.gradients_begin = fixture.ctx.dense_gradients_begin = true;
  backward();
  std::size_t i = 0;
  for (TestParameters& unit : units)
    for (const View& gradient : unit.gradients()) EXPECT_EQ(elements(gradient), added[i++]);
}

TEST_F(PredictionHeadTest, DelayedWeightGradientsGiveAllMemoryBack) {
  backward();
  state.reset();
  fixture.expect_memory_returned();
}

/// No unit but the head's has a gradient, and the losses are those of the head alone.
TEST_F(PredictionHeadTest, WithoutPredictionItIsTheHead) {
  batch.batch.predicts = false;
  backward();
  EXPECT_TRUE(static_cast<PredictionHeadState&>(*state).prediction.loss_sum.absent());
  const HeadBlock plain(vocabulary, hidden, 1e-6, false);
  std::unique_ptr<BlockState> other;
  plain.forward(fixture.ctx, {units[0].weights()}, batch.batch, activation_of(fixture.ctx, input), other);
  EXPECT_EQ(element(static_cast<HeadState&>(*other).loss_sum, 0),
            element(static_cast<PredictionHeadState&>(*state).loss_sum, 0));
  for (std::size_t unit = 1; unit < units.size(); ++unit)
    for (const View& gradient : units[unit].gradients())
      for (double value : elements(gradient)) EXPECT_EQ(value, 0);
}

/// Tokens of labels that do not count leave no trace, those whose next token is of another document included.
TEST_F(PredictionHeadTest, UncountedLabelsLeaveNoTrace) {
  for (std::int64_t t = 0; t < 10; ++t) {
    set_element(batch.labels, t, -1);
    set_element(next_labels, t, -1);
  }
  EXPECT_EQ(loss(), 0);
  for (double value : elements(backward())) EXPECT_EQ(value, 0);
}

TEST_F(PredictionHeadTest, NoSequencesLeaveNoTrace) {
  batch.batch.sequences = 0;
  for (ConstView MicroBatch::*member :
       {&MicroBatch::ids, &MicroBatch::labels, &MicroBatch::positions, &MicroBatch::next_ids, &MicroBatch::next_labels})
    batch.batch.*member = (batch.batch.*member).rows(0, 0);
  batch.batch.documents = ConstView();
  input = HostTensor(DType::f64, {0, hidden});
  EXPECT_EQ(loss(), 0);
  backward();
  for (TestParameters& unit : units)
    for (const View& gradient : unit.gradients())
      for (double value : elements(gradient)) EXPECT_EQ(value, 0);
}

}  // namespace
}  // namespace moesaic
