// The experts of a MoE layer against dense layers of the same weights, and many of them.
#include <algorithm>

#include "layers/feed_forward_fixture.hpp"
#include "moesaic/layers/dense.hpp"
#include "moesaic/layers/moe.hpp"

namespace moesaic {
namespace {

/// A MoE layer on one rank; loss = <direction, y>.
struct ExpertsRun {
  ExpertsRun(const MoeSpec& moe, const TestBatch& tokens)
      : spec(moe), load(DType::i64, {moe.experts}), auxiliary_loss(DType::f64, {1}),
        layer(moe, "m", local, nullptr, {{}, load, auxiliary_loss}), batch(tokens.batch),
        run(fixture, layer, batch, moe.hidden) {}

  /// Of each expert's weight its own part, as a matrix.
  View of_expert(const View& weight, std::int64_t expert) const {
    return weight.rows(expert, expert + 1).reshape({weight.extent(1), weight.extent(2)});
  }
  ParameterViews expert(std::int64_t index) {
    const ParameterViews all = run.experts.weights();
    return {of_expert(all[0], index), of_expert(all[1], index)};
  }
  /// The dense layer of one expert's weights, on all tokens.
  HostTensor dense(std::int64_t index) {
    const DenseFeedForward one(spec.hidden, spec.width, "f");
    const ParameterViews weights = expert(index);
    std::unique_ptr<FeedForwardState> state;
    return copy_of(one.forward(fixture.ctx, {weights, {}}, batch, run.x, state));
  }

  /// Smallest distance between the logits of the last expert chosen and the first left out.
  double logit_margin() {
    double margin = 1;
    for (std::int64_t t = 0; t < batch.tokens(); ++t) {
      std::vector<double> logits;
      for (std::int64_t e = 0; e < spec.experts; ++e) {
        logits.push_back(inner_product(run.dense.weights()[0].rows(e, e + 1), run.x.view().rows(t, t + 1)));
      }
      std::sort(logits.rbegin(), logits.rend());
      const auto chosen = static_cast<std::size_t>(spec.top_k);
      margin = std::min(margin, logits[chosen - 1] - logits[chosen]);
    }
    return margin;
  }

  MoeSpec spec;
  LayerFixture fixture;
  LocalExperts local;
  HostTensor load, auxiliary_loss;
  MoeLayer layer;
  MicroBatch batch;
  FeedForwardRun run;
};

// y[t] = sum of weight * dense(x[t]) over the slots of t, from the routing alone.
TEST(MoeExperts, AreWeightedDenseLayers) {
  const TestBatch two(2, 4);
  for (bool renormalise : {true, false}) {
    ExpertsRun moe({.hidden = 4, .width = 3, .experts = 5, .top_k = 2, .renormalise = renormalise}, two);
    RouterState routed;
    const Router router(moe.spec, nullptr, {{}, moe.load, moe.auxiliary_loss});
    router.forward(moe.fixture.ctx, {moe.run.dense.weights()[0]}, moe.batch, moe.run.x, routed);
    HostTensor expected(DType::f64, {8, 4});
    for (std::int64_t slot = 0; slot < 16; ++slot) {
      const HostTensor y = moe.dense(static_cast<std::int64_t>(element(routed.routing.indices, slot)));
      for (std::int64_t i = slot / 2 * 4; i < slot / 2 * 4 + 4; ++i)
        set_element(expected, i, element(expected, i) + element(routed.routing.weights, slot) * element(y, i));
    }
    EXPECT_LT(max_difference(moe.run.forward(), expected), 1e-14);
  }
}

// With gradients_begin products may hold anything before, and the gradients are those that are added to zeros.
TEST(MoeExperts, TheFirstGradientsReplaceProducts) {
  const TestBatch two(2, 4);
  ExpertsRun moe({.hidden = 4, .width = 3, .experts = 5, .top_k = 2, .bias = true}, two);
  moe.run.backward();
  std::vector<HostTensor> added;
  std::size_t products = 0;
  for (std::size_t i = 0; i < moe.run.experts.specs().size(); ++i) {
    const View gradient = moe.run.experts.gradients()[i];
    added.push_back(copy_of(gradient));
    assign(gradient, std::vector<double>(static_cast<std::size_t>(gradient.size()), 0.0));
    if (!moe.run.experts.specs()[i].product) continue;
    poison(gradient);
    ++products;
  }
  EXPECT_EQ(products, 2u);
  moe.fixture.ctx.gradients_begin = true;
  moe.run.backward();
  for (std::size_t i = 0; i < added.size(); ++i)
    EXPECT_EQ(elements(moe.run.experts.gradients()[i]), elements(added[i])) << moe.run.experts.specs()[i].name;
}

// When all experts are the same, renormalised weights add up to one dense layer, and routing has no gradient.
TEST(MoeExperts, AllAlikeAreOneDenseLayer) {
  const TestBatch two(2, 4);
  ExpertsRun moe({.hidden = 4, .width = 3, .experts = 5, .top_k = 3}, two);
  for (std::int64_t e = 1; e < 5; ++e) {
    for (std::size_t i : {0u, 1u}) assign(moe.expert(e)[i], elements(moe.expert(0)[i]));
  }
  EXPECT_LT(max_difference(moe.run.forward(), moe.dense(0)), 1e-14);
  moe.run.backward();
  for (double value : elements(moe.run.dense.gradients()[0])) EXPECT_NEAR(value, 0, 1e-14);
  const auto loss = [&] { return moe.run.loss(); };
  EXPECT_LT(max_gradient_error(loss, moe.run.x, moe.run.x_gradient), 1e-6);
  moe.run.experts.expect_gradients(loss);
}

// Three tokens use at most 24 of 256 experts: the others' gradients are zero, to the bit.
TEST(MoeExperts, HundredsOfThem) {
  const TestBatch one(1, 3);
  ExpertsRun moe({.hidden = 3, .width = 2, .experts = 256, .top_k = 8}, one);
  ASSERT_GT(moe.logit_margin(), 1e-4);
  moe.run.backward();
  double slots = 0;
  for (std::int64_t e = 0; e < 256; ++e) {
    slots += element(moe.load, e);
    if (element(moe.load, e) > 0) continue;
    for (const View& gradient : moe.run.experts.gradients()) {
      for (double value : elements(moe.of_expert(gradient, e))) ASSERT_EQ(value, 0) << "expert " << e;
    }
  }
  EXPECT_EQ(slots, 24);
  moe.run.expect_gradients([&] { return moe.run.loss(); });
}

}  // namespace
}  // namespace moesaic
