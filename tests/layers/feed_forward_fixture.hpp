#pragma once
/// Runs a feed-forward layer: its loss as a function of input and weights, and its gradients.

#include <memory>

#include "layers/layer_fixture.hpp"
#include "moesaic/layers/feed_forward.hpp"

namespace moesaic {

/// loss = <direction, layer(x)>, plus what `extra` adds (an auxiliary loss).
class FeedForwardRun {
 public:
  FeedForwardRun(LayerFixture& fixture, const FeedForward& layer, const MicroBatch& batch, std::int64_t hidden,
                 double scale = 0.5)
      : fixture_(fixture), layer_(layer), batch_(batch), dense(layer.dense_parameters(), DType::f64, 100, scale),
        experts(layer.expert_parameters(), DType::f64, 200, scale),
        x(random_tensor(DType::f64, {batch.tokens(), hidden}, 300)),
        direction(random_tensor(DType::f64, {batch.tokens(), hidden}, 400)),
        x_gradient(DType::f64, x.view().extents()) {}

  HostTensor forward() {
    std::unique_ptr<FeedForwardState> state;
    return copy_of(start(state));
  }

  double loss() { return inner_product(direction, forward()); }

  /// Both halves of backward; the state is destroyed in between the last use and the check of memory.
  void backward() {
    {
      std::unique_ptr<FeedForwardState> state;
      start(state);
      HostTensor gradient = copy_of(direction);
      const ParameterViews weights = dense.weights(), expert_weights = experts.weights();
      x_gradient = copy_of(layer_.backward_input(fixture_.ctx, {weights, expert_weights}, gradient, *state));
      poison(gradient);  // it was free again
      const ParameterViews gradients = dense.gradients(), expert_gradients = experts.gradients();
      layer_.backward_weight(fixture_.ctx, *state, {gradients, expert_gradients});
    }
    fixture_.expect_memory_returned();
  }

  template <class Loss> void expect_gradients(const Loss& loss_function) {
    EXPECT_LT(max_gradient_error(loss_function, x, x_gradient), 1e-6) << "input";
    dense.expect_gradients(loss_function);
    experts.expect_gradients(loss_function);
  }

 private:
  Tensor start(std::unique_ptr<FeedForwardState>& state) {
    const ParameterViews weights = dense.weights(), expert_weights = experts.weights();
    return layer_.forward(fixture_.ctx, {weights, expert_weights}, batch_, x, state);
  }

  LayerFixture& fixture_;
  const FeedForward& layer_;
  const MicroBatch& batch_;

 public:
  TestParameters dense, experts;
  HostTensor x, direction, x_gradient;
};

}  // namespace moesaic
