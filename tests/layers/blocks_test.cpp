// A chain of all kinds of blocks: precision, memory that starts as NaN, gradients that add up.
#include <cmath>
#include <cstring>
#include <memory>

#include "layers/transformer_block_fixture.hpp"
#include "moesaic/layers/embedding.hpp"
#include "moesaic/layers/head.hpp"

namespace moesaic {
namespace {

constexpr std::int64_t vocabulary = 11, hidden = 6;
constexpr AttentionSpec attention{.hidden = hidden, .heads = 4, .key_heads = 2, .width = 4, .head_norm = true};
constexpr MoeSpec moe{.hidden = hidden, .width = 3, .experts = 4, .top_k = 2, .balance = Balance::auxiliary};

/// Embedding, a sparse and a dense block, head.
class Chain {
 public:
  explicit Chain(DType type) : fixture(type), table_(fixture.arena, type, 16, attention.width, 100) {
    const MoeAccounts accounts{{}, load_, auxiliary_loss_};
    blocks_.push_back(std::make_unique<EmbeddingBlock>(vocabulary, hidden));
    blocks_.push_back(make_sparse_block(0, attention, moe, table_, sequences_, local_, accounts));
    blocks_.push_back(make_dense_block(1, attention, 7, table_, sequences_));
    blocks_.push_back(std::make_unique<HeadBlock>(vocabulary, hidden, 1e-6, false));
    std::uint32_t seed = 0;
    for (const auto& block : blocks_) {
      units_.emplace_back();
      for (const UnitSpec& unit : block->units()) units_.back().emplace_back(unit.parameters, type, seed += 100);
    }
  }

  /// Forward and backward; returns the loss and adds to the gradients.
  double step(const MicroBatch& batch) {
    const LayerContext& ctx = fixture.ctx;
    std::vector<std::unique_ptr<BlockState>> states(blocks_.size());
    Tensor x;
    for (std::size_t b = 0; b < blocks_.size(); ++b)
      x = blocks_[b]->forward(ctx, views(b, &TestParameters::weights), batch, std::move(x), states[b]);
    const double loss = element(static_cast<HeadState&>(*states.back()).loss_sum, 0);
    for (std::size_t b = blocks_.size(); b-- > 0;) {
      x = blocks_[b]->backward_input(ctx, views(b, &TestParameters::weights), batch, *states[b], std::move(x));
      blocks_[b]->backward_weight(ctx, batch, *states[b], views(b, &TestParameters::gradients));
    }
    return loss;
  }

  /// Of all parameters, one after the other.
  std::vector<double> gradients() {
    std::vector<double> all;
    for (auto& block : units_) {
      for (TestParameters& unit : block) {
        for (const View& gradient : unit.gradients()) {
          const std::vector<double> values = elements(gradient);
          all.insert(all.end(), values.begin(), values.end());
        }
      }
    }
    return all;
  }

  /// Those of the next step replace these.
  void begin_gradients() {
    fixture.ctx.gradients_begin = fixture.ctx.dense_gradients_begin = true;
    for (auto& block : units_)
      for (TestParameters& unit : block) unit.begin_gradients();
  }

  LayerFixture fixture;

 private:
  BlockViews views(std::size_t block, ParameterViews (TestParameters::*kind)()) {
    BlockViews all;
    for (TestParameters& unit : units_[block]) all.push_back((unit.*kind)());
    return all;
  }

  RotaryTable table_;
  LocalSequences sequences_;
  LocalExperts local_;
  HostTensor load_{DType::i64, {moe.experts}}, auxiliary_loss_{DType::f64, {1}};
  std::vector<std::unique_ptr<ModelBlock>> blocks_;
  std::vector<std::vector<TestParameters>> units_;
};

class BlocksTest : public testing::Test {
 protected:
  BlocksTest() {
    batch.set_documents({0, 0, 1, 1, 1, 2, 2, 2, 2, 2});
    batch.batch.loss_scale = 0.125;
    batch.batch.balance_gradient = 0.1;
  }
  TestBatch batch{2, 5, vocabulary};
};

TEST_F(BlocksTest, FloatFollowsDouble) {
  Chain narrow(DType::f32), wide(DType::f64);
  const double loss = wide.step(batch.batch);
  EXPECT_NEAR(narrow.step(batch.batch), loss, 1e-5 * loss);
  const std::vector<double> expected = wide.gradients(), gradients = narrow.gradients();
  double largest = 0;
  for (double value : expected) largest = std::max(largest, std::abs(value));
  ASSERT_GT(largest, 0.01);
  for (std::size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(gradients[i], expected[i], 1e-5 * largest) << i;
}

/// All memory that the arena is about to hand out holds NaN (and integers of -1).
void poison_memory(Arena& arena, std::int64_t bytes) {
  const Tensor all = arena.tensor(DType::u8, {bytes}, Label::workspace);
  std::memset(all.view().raw(), 0xff, static_cast<std::size_t>(bytes));
}

TEST_F(BlocksTest, NothingReadsMemoryBeforeItIsWritten) {
  constexpr std::int64_t bytes = 1 << 20;
  for (DType type : {DType::f32, DType::f64}) {
    Chain clean(type), poisoned(type);
    poison_memory(poisoned.fixture.arena, bytes);
    EXPECT_EQ(clean.step(batch.batch), poisoned.step(batch.batch));
    EXPECT_EQ(clean.gradients(), poisoned.gradients());
    EXPECT_LE(clean.fixture.arena.peak(), bytes);  // so all of it was poisoned
    poisoned.fixture.expect_memory_returned();
  }
}

TEST_F(BlocksTest, NoSequencesLeaveNoTrace) {
  const TestBatch none(0, 5, vocabulary);
  Chain chain(DType::f32);
  poison_memory(chain.fixture.arena, 1 << 20);
  EXPECT_EQ(chain.step(none.batch), 0);
  for (double value : chain.gradients()) ASSERT_EQ(value, 0);
  chain.fixture.expect_memory_returned();
}

TEST_F(BlocksTest, GradientsThatBeginReplaceProducts) {
  const TestBatch none(0, 5, vocabulary);
  Chain chain(DType::f64);
  chain.step(batch.batch);
  const std::vector<double> added = chain.gradients();
  chain.begin_gradients();
  chain.step(batch.batch);
  EXPECT_EQ(chain.gradients(), added);
  chain.begin_gradients();
  chain.step(none.batch);
  for (double value : chain.gradients()) ASSERT_EQ(value, 0);
}

TEST_F(BlocksTest, GradientsAddUp) {
  Chain chain(DType::f64);
  chain.step(batch.batch);
  std::vector<double> once = chain.gradients();
  chain.step(batch.batch);
  const std::vector<double> twice = chain.gradients();
  for (std::size_t i = 0; i < once.size(); ++i) ASSERT_NEAR(twice[i], 2 * once[i], 1e-14) << i;
}

}  // namespace
}  // namespace moesaic
