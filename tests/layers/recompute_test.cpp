// What backward computes again: the same bits, less memory, the routing of the forward.
#include "moesaic/layers/recompute.hpp"

#include <array>
#include <numeric>
#include <tuple>

#include "layers/transformer_block_fixture.hpp"

namespace moesaic {
namespace {

constexpr std::int64_t hidden = BlockRun::hidden;

std::vector<double> joined(const std::vector<HostTensor>& tensors) {
  std::vector<double> values;
  for (const HostTensor& tensor : tensors)
    for (double value : elements(tensor)) values.push_back(value);
  return values;
}

/// Three micro-batches of unlike size through one block, all forwards first.
struct Training {
  Training(BlockKind kind, Recompute recompute) : run(kind, DType::f32) {
    run.fixture.ctx.recompute = recompute;
    for (std::uint32_t i = 0; i < 3; ++i) {
      batches.emplace_back(i, 5);  // the first has no tokens
      batches.back().batch.balance_gradient = 0.1;
      batches.back().batch.balance_weight = 0.25;
      x.push_back(random_tensor(DType::f32, {batches.back().batch.tokens(), hidden}, 50 + i));
      direction.push_back(random_tensor(DType::f32, x.back().view().extents(), 60 + i));
    }
  }

  void forward(std::size_t i) {
    outputs.push_back(copy_of(run.block->forward(run.fixture.ctx, run.weights(), batches[i].batch,
                                                 activation_of(run.fixture.ctx, x[i]), states[i])));
  }
  void backward_input(std::size_t i) {
    const LayerContext& ctx = run.fixture.ctx;
    x_gradients.push_back(copy_of(
        run.block->backward_input(ctx, run.weights(), batches[i].batch, *states[i], activation_of(ctx, direction[i]))));
  }
  void backward_weight(std::size_t i) {
    run.block->backward_weight(run.fixture.ctx, batches[i].batch, *states[i], run.gradients());
  }

  void forwards() {
    for (std::size_t i : {0u, 1u, 2u}) forward(i);
  }
  /// `delayed`: all weight gradients after all input gradients, as a zero-bubble schedule may have it.
  void backwards(bool delayed) {
    for (std::size_t i : {0u, 1u, 2u}) {
      backward_input(i);
      if (!delayed) backward_weight(i);
    }
    for (std::size_t i : {0u, 1u, 2u})
      if (delayed) backward_weight(i);
  }

  void expect_same_bits(Training& other) {
    EXPECT_EQ(joined(outputs), joined(other.outputs));
    EXPECT_EQ(joined(x_gradients), joined(other.x_gradients));
    for (std::size_t unit = 0; unit < run.units.size(); ++unit) {
      const ParameterViews one = run.units[unit].gradients(), two = other.run.units[unit].gradients();
      for (std::size_t i = 0; i < one.size(); ++i)
        EXPECT_EQ(elements(one[i]), elements(two[i])) << run.units[unit].specs()[i].name;
    }
    EXPECT_EQ(elements(run.load), elements(other.run.load));
    EXPECT_EQ(elements(run.auxiliary_loss), elements(other.run.auxiliary_loss));
  }

  BlockRun run;
  std::vector<TestBatch> batches;
  std::vector<HostTensor> x, direction, outputs, x_gradients;
  std::array<std::unique_ptr<BlockState>, 3> states;
};

class RecomputeTest : public testing::TestWithParam<std::tuple<BlockKind, Recompute, bool>> {
 protected:
  const BlockKind kind = std::get<0>(GetParam());
  const Recompute recompute = std::get<1>(GetParam());
  const bool delayed = std::get<2>(GetParam());
};
INSTANTIATE_TEST_SUITE_P(Blocks, RecomputeTest,
                         testing::Combine(testing::Values(BlockKind::dense, BlockKind::sparse, BlockKind::latent),
                                          testing::Values(Recompute::block, Recompute::selective), testing::Bool()));

TEST_P(RecomputeTest, GradientsAndAccountsAreTheSameBits) {
  Training kept(kind, Recompute::none), again(kind, recompute);
  for (Training* training : {&kept, &again}) {
    training->forwards();
    training->backwards(delayed);
  }
  kept.expect_same_bits(again);
  again.run.fixture.expect_memory_returned();
  if (kind == BlockKind::dense) return;
  const std::vector<double> load = elements(again.run.load);
  EXPECT_EQ(std::accumulate(load.begin(), load.end(), 0.0), (5 + 10) * 2);  // each token's two experts, once
}

// Other router weights after the forward would route otherwise, if anything were routed again.
TEST_P(RecomputeTest, TheRoutingOfTheForwardIsReplayed) {
  Training kept(kind, Recompute::none), again(kind, recompute);
  for (Training* training : {&kept, &again}) {
    training->forwards();
    const ParameterViews weights = training->run.weights()[0];
    for (std::size_t i = 0; i < weights.size(); ++i) {
      if (training->run.units[0].specs()[i].name != "blocks/2/router") continue;
      assign(weights[i], elements(random_tensor(DType::f32, weights[i].extents(), 999)));
    }
    training->backwards(delayed);
  }
  kept.expect_same_bits(again);
}

/// Bytes of activations that the forward of 96 tokens leaves, the output given away.
std::int64_t bytes_kept(BlockKind kind, Recompute recompute) {
  BlockRun run(kind, DType::f32);
  run.fixture.ctx.recompute = recompute;
  TestBatch batch(6, 16);
  const HostTensor x = random_tensor(DType::f32, {96, hidden}, 7);
  std::unique_ptr<BlockState> state;
  run.block->forward(run.fixture.ctx, run.weights(), batch.batch, activation_of(run.fixture.ctx, x), state);
  return run.fixture.arena.used(Label::activations);
}

// The arena counts in pieces of 256 bytes; 96 tokens of one f32 are 384.
constexpr std::int64_t input = 384 * hidden;
constexpr std::int64_t routing =
    384 * (4 + 2 + 2) + 256;  // probabilities, two experts, their weights; balance gradient
constexpr std::int64_t gate_up = 384 * 2 * 7;
constexpr std::int64_t slots = 256 + 2 * 768 + 768 * 2 * 3;  // offsets, two orders, gate_up of 192

TEST(Recompute, ABlockKeepsItsInputAndItsRoutingAlone) {
  EXPECT_EQ(bytes_kept(BlockKind::dense, Recompute::block), input);
  EXPECT_EQ(bytes_kept(BlockKind::sparse, Recompute::block), input + routing);
  EXPECT_EQ(bytes_kept(BlockKind::latent, Recompute::block), input + routing);
}

TEST(Recompute, SelectiveKeepsAllButTheFeedForward) {
  EXPECT_EQ(bytes_kept(BlockKind::dense, Recompute::selective),
            bytes_kept(BlockKind::dense, Recompute::none) - gate_up);
  EXPECT_EQ(bytes_kept(BlockKind::sparse, Recompute::selective),
            bytes_kept(BlockKind::sparse, Recompute::none) - slots);
}

}  // namespace
}  // namespace moesaic
