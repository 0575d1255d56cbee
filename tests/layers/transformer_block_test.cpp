#include "moesaic/layers/transformer_block.hpp"

#include <array>

#include "layers/transformer_block_fixture.hpp"

namespace moesaic {
namespace {

constexpr std::int64_t hidden = BlockRun::hidden;

std::vector<std::string> names_of(const UnitSpec& unit) {
  std::vector<std::string> names;
  for (const ParameterSpec& parameter : unit.parameters) names.push_back(parameter.name);
  return names;
}

TEST(TransformerBlock, DeclaresItsUnits) {
  const BlockRun dense(BlockKind::dense), sparse(BlockKind::sparse), latent(BlockKind::latent);
  ASSERT_EQ(dense.block->units().size(), 1u);
  EXPECT_EQ(dense.block->units()[0].name, "blocks/2");
  EXPECT_EQ(names_of(dense.block->units()[0]),
            (std::vector<std::string>{"blocks/2/attention_norm", "blocks/2/attention/query_key_value",
                                      "blocks/2/attention/output", "blocks/2/attention/query_norm",
                                      "blocks/2/attention/key_norm", "blocks/2/feed_forward_norm",
                                      "blocks/2/feed_forward/gate_up", "blocks/2/feed_forward/down"}));
  ASSERT_EQ(sparse.block->units().size(), 2u);
  EXPECT_EQ(names_of(sparse.block->units()[0]).back(), "blocks/2/router");
  EXPECT_FALSE(sparse.block->units()[0].expert);
  EXPECT_EQ(sparse.block->units()[1].name, "blocks/2/experts");
  EXPECT_TRUE(sparse.block->units()[1].expert);
  EXPECT_EQ(names_of(sparse.block->units()[1]),
            (std::vector<std::string>{"blocks/2/experts/gate_up", "blocks/2/experts/down"}));
  EXPECT_EQ(names_of(latent.block->units()[0]),
            (std::vector<std::string>{"blocks/2/attention_norm", "blocks/2/attention/query_key_value",
                                      "blocks/2/attention/key_value_norm", "blocks/2/attention/key_value_up",
                                      "blocks/2/attention/output", "blocks/2/attention/query_norm",
                                      "blocks/2/attention/query_up", "blocks/2/feed_forward_norm", "blocks/2/router",
                                      "blocks/2/shared/gate_up", "blocks/2/shared/down"}));
}

// With all output matrices zero the block is the identity: both halves stand beside the residual stream.
TEST(TransformerBlock, IsAResidual) {
  TestBatch batch(2, 3);
  BlockRun run(BlockKind::dense);
  for (std::size_t parameter : {2u, 7u}) {
    const View weight = run.weights()[0][parameter];
    assign(weight, std::vector<double>(static_cast<std::size_t>(weight.size()), 0.0));
  }
  const HostTensor x = random_tensor(DType::f64, {6, hidden}, 7);
  std::unique_ptr<BlockState> state;
  const Tensor y =
      run.block->forward(run.fixture.ctx, run.weights(), batch.batch, activation_of(run.fixture.ctx, x), state);
  EXPECT_EQ(max_difference(x, y), 0);
}

class TransformerBlockTest : public testing::TestWithParam<BlockKind> {};
INSTANTIATE_TEST_SUITE_P(AllKinds, TransformerBlockTest,
                         testing::Values(BlockKind::dense, BlockKind::sparse, BlockKind::latent));

TEST_P(TransformerBlockTest, Gradients) {
  TestBatch batch(2, 4);
  batch.set_documents({0, 0, 0, 1, 2, 2, 2, 2});
  batch.batch.balance_weight = 1;
  batch.batch.balance_gradient = 0.4;
  BlockRun run(GetParam());
  const LayerContext& ctx = run.fixture.ctx;
  HostTensor x = random_tensor(DType::f64, {8, hidden}, 8);
  const HostTensor direction = random_tensor(DType::f64, {8, hidden}, 9);
  const auto loss = [&] {
    set_element(run.auxiliary_loss, 0, 0);
    std::unique_ptr<BlockState> state;
    const Tensor y = run.block->forward(ctx, run.weights(), batch.batch, activation_of(ctx, x), state);
    return inner_product(direction, y) + 0.4 * element(run.auxiliary_loss, 0);
  };

  HostTensor x_gradient(DType::f64, {8, hidden});
  std::unique_ptr<BlockState> state;
  run.block->forward(ctx, run.weights(), batch.batch, activation_of(ctx, x), state);
  x_gradient =
      copy_of(run.block->backward_input(ctx, run.weights(), batch.batch, *state, activation_of(ctx, direction)));
  run.block->backward_weight(ctx, batch.batch, *state, run.gradients());
  run.fixture.expect_memory_returned();  // while the state still stands

  EXPECT_LT(max_gradient_error(loss, x, x_gradient), 1e-6) << "input";
  for (TestParameters& unit : run.units) unit.expect_gradients(loss);
}

/// Three micro-batches through one block; weight gradients at once, or after all input gradients.
struct ThreeBatches {
  explicit ThreeBatches(BlockKind kind) : run(kind, DType::f32) {
    for (std::uint32_t i = 0; i < 3; ++i) {
      batches.emplace_back(i + 1, 5);
      batches.back().batch.balance_gradient = 0.1;
      x.push_back(random_tensor(DType::f32, {batches.back().batch.tokens(), hidden}, 50 + i));
      direction.push_back(random_tensor(DType::f32, x.back().view().extents(), 60 + i));
    }
  }
  void forward(std::size_t i) {
    run.block->forward(run.fixture.ctx, run.weights(), batches[i].batch, activation_of(run.fixture.ctx, x[i]),
                       states[i]);
  }
  void backward_input(std::size_t i) {
    const LayerContext& ctx = run.fixture.ctx;
    x_gradients.push_back(copy_of(
        run.block->backward_input(ctx, run.weights(), batches[i].batch, *states[i], activation_of(ctx, direction[i]))));
  }
  void backward_weight(std::size_t i) {
    run.block->backward_weight(run.fixture.ctx, batches[i].batch, *states[i], run.gradients());
  }

  BlockRun run;
  std::vector<TestBatch> batches;
  std::vector<HostTensor> x, direction, x_gradients;
  std::array<std::unique_ptr<BlockState>, 3> states;
};

TEST_P(TransformerBlockTest, DelayedWeightGradientsAreTheSameBits) {
  ThreeBatches at_once(GetParam()), delayed(GetParam());
  for (std::size_t i : {0u, 1u, 2u}) {
    at_once.forward(i);
    at_once.backward_input(i);
    at_once.backward_weight(i);
  }
  for (std::size_t i : {0u, 1u, 2u}) delayed.forward(i);
  for (std::size_t i : {0u, 1u, 2u}) delayed.backward_input(i);
  for (std::size_t i : {0u, 1u, 2u}) delayed.backward_weight(i);

  for (std::size_t i : {0u, 1u, 2u}) EXPECT_EQ(elements(at_once.x_gradients[i]), elements(delayed.x_gradients[i]));
  for (std::size_t unit = 0; unit < at_once.run.units.size(); ++unit) {
    const ParameterViews one = at_once.run.units[unit].gradients(), other = delayed.run.units[unit].gradients();
    for (std::size_t i = 0; i < one.size(); ++i) {
      EXPECT_EQ(elements(one[i]), elements(other[i])) << at_once.run.units[unit].specs()[i].name;
    }
  }
  delayed.run.fixture.expect_memory_returned();
}

}  // namespace
}  // namespace moesaic
