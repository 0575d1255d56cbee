#include "moesaic/layers/prediction_head.hpp"

#include "moesaic/layers/linear.hpp"

#include <utility>

namespace moesaic {

struct PredictionHead::State : PredictionHeadState {
  Tensor embedded;  ///< [tokens, hidden]; after the input gradient: its gradient
  Tensor joined;    ///< [tokens, 2 * hidden]: both normalised
  RmsNormState embedding_norm, hidden_norm;
  std::unique_ptr<BlockState> block;
  Tensor projected_gradient;  ///< [tokens, hidden], of the block's input
};

namespace {

ParameterSpec norm_parameter(const char* name, std::int64_t hidden) {
  return {name, {hidden}, Initialisation::ones, false};
}

std::vector<UnitSpec> prediction_units(std::int64_t vocabulary, std::int64_t hidden, const ModelBlock& block) {
  std::vector<UnitSpec> units = HeadBlock(vocabulary, hidden, 0, false).units();
  units.insert(units.end(), block.units().begin(), block.units().end());
  units.push_back({.name = "prediction",
                   .expert = false,
                   .parameters = {norm_parameter("prediction/embedding_norm", hidden),
                                  norm_parameter("prediction/hidden_norm", hidden),
                                  {"prediction/projection", {hidden, 2 * hidden}},
                                  norm_parameter("prediction/norm", hidden)},
                   .tied_to = {}});
  units.push_back({.name = "prediction_table",
                   .expert = false,
                   .parameters = {{"embedding/weight", {vocabulary, hidden}}},
                   .tied_to = "embedding"});
  return units;
}

}  // namespace

PredictionHead::PredictionHead(std::int64_t vocabulary, std::int64_t hidden, double norm_eps,
                               std::unique_ptr<ModelBlock> block)
    : hidden_(hidden), norm_(norm_eps), output_(norm_eps), block_(std::move(block)),
      units_(prediction_units(vocabulary, hidden, *block_)) {}

PredictionHead::Parts PredictionHead::parts_of(const BlockViews& views) const {
  const ParameterViews& head = views.front();
  const ParameterViews& own = views[views.size() - 2];
  return {.head = {head[0], head[1]},
          .block = {views.begin() + 1, views.end() - 2},
          .embedding_norm = own[0],
          .hidden_norm = own[1],
          .projection = own[2],
          .prediction = {own[3], head[1]},
          .table = views.back()[0]};
}

Tensor PredictionHead::forward(const LayerContext& ctx, const BlockViews& weights, const MicroBatch& batch,
                               Tensor hidden, std::unique_ptr<BlockState>& state) const {
  const Parts parts = parts_of(weights);
  auto own = std::make_unique<State>();
  output_.forward(ctx, parts.head, batch.labels, std::move(hidden), *own);
  if (batch.predicts) predict(ctx, parts, batch, *own);
  state = std::move(own);
  return {};
}

void PredictionHead::predict(const LayerContext& ctx, const Parts& weights, const MicroBatch& batch,
                             State& state) const {
  const std::int64_t tokens = batch.tokens();
  state.embedded = ctx.activation({tokens, hidden_});
  ctx.ops->embedding_forward(ctx.on, weights.table, batch.next_ids, state.embedded);
  state.joined = ctx.activation({tokens, 2 * hidden_});
  const View joined = state.joined;
  norm_.forward(ctx, weights.embedding_norm, state.embedded, joined.slice(1, 0, hidden_), state.embedding_norm);
  norm_.forward(ctx, weights.hidden_norm, state.normalised, joined.slice(1, hidden_, 2 * hidden_), state.hidden_norm);

  Tensor x = ctx.activation({tokens, hidden_});
  linear_forward(ctx, joined, weights.projection, x);
  Tensor y = block_->forward(ctx, weights.block, batch, std::move(x), state.block);
  output_.forward(ctx, weights.prediction, batch.next_labels, std::move(y), state.prediction);
}

Tensor PredictionHead::backward_input(const LayerContext& ctx, const BlockViews& weights, const MicroBatch& batch,
                                      BlockState& state, Tensor) const {
  const Parts parts = parts_of(weights);
  auto& own = static_cast<State&>(state);
  Tensor gradient = output_.loss_backward(ctx, parts.head, batch.labels, batch.loss_scale, own);
  if (batch.predicts) predict_backward(ctx, parts, batch, gradient, own);
  return output_.norm_backward(ctx, parts.head, std::move(gradient), own);
}

/// Adds to the gradient of what the final norm gives.
void PredictionHead::predict_backward(const LayerContext& ctx, const Parts& weights, const MicroBatch& batch,
                                      View hidden_gradient, State& state) const {
  Tensor gradient =
      output_.loss_backward(ctx, weights.prediction, batch.next_labels, batch.prediction_scale, state.prediction);
  gradient = output_.norm_backward(ctx, weights.prediction, std::move(gradient), state.prediction);
  state.projected_gradient = block_->backward_input(ctx, weights.block, batch, *state.block, std::move(gradient));

  const Tensor joined = ctx.workspace({batch.tokens(), 2 * hidden_});
  linear_backward_input(ctx, state.projected_gradient, weights.projection, 0, joined);
  const ConstView embedded_gradient = joined.view().slice(1, 0, hidden_);
  norm_.backward_input(ctx, weights.hidden_norm, state.normalised, joined.view().slice(1, hidden_, 2 * hidden_), 1,
                       hidden_gradient, state.hidden_norm);
  Tensor embedded = ctx.activation({batch.tokens(), hidden_});
  norm_.backward_input(ctx, weights.embedding_norm, state.embedded, embedded_gradient, 0, embedded,
                       state.embedding_norm);
  state.embedded = std::move(embedded);
}

void PredictionHead::backward_weight(const LayerContext& ctx, const MicroBatch& batch, BlockState& state,
                                     const BlockViews& gradients) const {
  const Parts parts = parts_of(gradients);
  auto& own = static_cast<State&>(state);
  output_.backward_weight(ctx, own, parts.head);
  if (!batch.predicts) return;
  LayerContext after_head = ctx;  // whose table predictions are made with as well
  after_head.dense_gradients_begin = false;
  output_.backward_weight(after_head, own.prediction, parts.prediction);
  block_->backward_weight(ctx, batch, *own.block, parts.block);
  own.block.reset();

  linear_backward_weight(ctx, own.projected_gradient, own.joined, parts.projection);
  own.projected_gradient.reset();
  own.joined.reset();
  norm_.backward_weight(ctx, own.hidden_norm, parts.hidden_norm);
  norm_.backward_weight(ctx, own.embedding_norm, parts.embedding_norm);
  ctx.ops->embedding_backward(ctx.on, batch.next_ids, own.embedded, parts.table);
  own.embedded.reset();
}

}  // namespace moesaic
