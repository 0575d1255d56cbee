#include "moesaic/layers/dense.hpp"

#include <cmath>

#include "layers/feed_forward_fixture.hpp"

namespace moesaic {
namespace {

TEST(DenseFeedForward, DeclaresItsParameters) {
  const DenseFeedForward layer(4, 6, "f");
  ASSERT_EQ(layer.dense_parameters().size(), 2u);
  EXPECT_EQ(layer.dense_parameters()[0].name, "f/gate_up");
  EXPECT_EQ(layer.dense_parameters()[0].shape, (Extents{12, 4}));
  EXPECT_EQ(layer.dense_parameters()[1].name, "f/down");
  EXPECT_EQ(layer.dense_parameters()[1].shape, (Extents{4, 6}));
  EXPECT_TRUE(layer.expert_parameters().empty());
}

// x = (log 3, 1): gate = log 3, silu = 3/4 log 3; up = 4; down = (1, -2): y = (3 log 3, -6 log 3).
TEST(DenseFeedForward, Literal) {
  LayerFixture fixture;
  TestBatch one(1, 1);
  const DenseFeedForward layer(2, 1, "f");
  FeedForwardRun run(fixture, layer, one.batch, 2);
  assign(run.x, {std::log(3), 1});
  assign(run.dense.weights()[0], {1, 0, 0, 4});
  assign(run.dense.weights()[1], {1, -2});
  const HostTensor y = run.forward();
  EXPECT_NEAR(element(y, 0), 3 * std::log(3), 1e-14);
  EXPECT_NEAR(element(y, 1), -6 * std::log(3), 1e-14);
}

TEST(DenseFeedForward, Gradients) {
  LayerFixture fixture;
  TestBatch two(2, 3);
  const DenseFeedForward layer(5, 7, "f");
  FeedForwardRun run(fixture, layer, two.batch, 5);
  run.backward();
  run.expect_gradients([&] { return run.loss(); });
}

}  // namespace
}  // namespace moesaic
