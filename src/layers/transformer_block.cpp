#include "moesaic/layers/transformer_block.hpp"

#include <string>
#include <utility>

namespace moesaic {

/// Members are destroyed in reverse: what reads a tensor stands below it.
struct TransformerBlock::State : BlockState {
  Recompute recompute = Recompute::none;  ///< what forward has forgotten
  Tensor input, attention_input;          ///< [tokens, hidden], before and after the norm
  Tensor middle, feed_forward_input;      ///< the same of the second half
  RmsNormState attention_norm, feed_forward_norm;
  std::unique_ptr<SequenceMixerState> attention;
  std::unique_ptr<FeedForwardState> feed_forward;
};

namespace {

ParameterSpec norm_parameter(std::int64_t index, const char* name, std::int64_t hidden) {
  return {TransformerBlock::path(index) + "/" + name, {hidden}, Initialisation::ones, false};
}

void append(std::vector<ParameterSpec>& all, const std::vector<ParameterSpec>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

std::vector<UnitSpec> block_units(std::int64_t index, std::int64_t hidden, const SequenceMixer& attention,
                                  const FeedForward& feed_forward) {
  UnitSpec block{.name = TransformerBlock::path(index), .expert = false, .parameters = {}, .tied_to = {}};
  block.parameters.push_back(norm_parameter(index, "attention_norm", hidden));
  append(block.parameters, attention.parameters());
  block.parameters.push_back(norm_parameter(index, "feed_forward_norm", hidden));
  append(block.parameters, feed_forward.dense_parameters());

  UnitSpec experts{.name = TransformerBlock::path(index) + "/experts",
                   .expert = true,
                   .parameters = feed_forward.expert_parameters(),
                   .tied_to = {}};
  if (experts.parameters.empty()) return {block};
  return {block, experts};
}

}  // namespace

TransformerBlock::TransformerBlock(std::int64_t index, std::int64_t hidden, double norm_eps, const RotaryTable& rotary,
                                   std::unique_ptr<SequenceMixer> attention, std::unique_ptr<FeedForward> feed_forward)
    : norm_(norm_eps), attention_(std::move(attention)), feed_forward_(std::move(feed_forward)), rotary_(rotary),
      units_(block_units(index, hidden, *attention_, *feed_forward_)) {}

std::string TransformerBlock::path(std::int64_t index) { return "blocks/" + std::to_string(index); }

TransformerBlock::Parts TransformerBlock::parts_of(const BlockViews& views) const {
  const std::span<const View> block(views[0]);
  const std::size_t count = attention_->parameters().size();
  Parts parts{.attention_norm = block[0],
              .feed_forward_norm = block[1 + count],
              .attention = block.subspan(1, count),
              .feed_forward = {.dense = block.subspan(2 + count), .experts = {}}};
  if (views.size() > 1) parts.feed_forward.experts = views[1];
  return parts;
}

Tensor TransformerBlock::forward(const LayerContext& ctx, const BlockViews& weights, const MicroBatch& batch,
                                 Tensor hidden, std::unique_ptr<BlockState>& state) const {
  const Parts parts = parts_of(weights);
  auto own = std::make_unique<State>();
  own->input = std::move(hidden);
  attend(ctx, parts, batch, *own);

  // y = middle + feed_forward(norm(middle))
  Tensor y = feed_forward_->forward(ctx, parts.feed_forward, batch, own->feed_forward_input, own->feed_forward);
  ctx.ops->accumulate(ctx.on, own->middle, y);
  forget(ctx.recompute, *own);
  state = std::move(own);
  return y;
}

/// From state.input to state.feed_forward_input: middle = x + attention(norm(x)), and its norm.
void TransformerBlock::attend(const LayerContext& ctx, const Parts& parts, const MicroBatch& batch,
                              State& state) const {
  const Extents extents = state.input.view().extents();
  state.attention_input = ctx.activation(extents);
  norm_.forward(ctx, parts.attention_norm, state.input, state.attention_input, state.attention_norm);
  state.middle = attention_->forward(ctx, parts.attention, batch, rotary_, state.attention_input, state.attention);

  state.feed_forward_input = ctx.activation(extents);
  norm_.forward_residual(ctx, parts.feed_forward_norm, state.input, state.middle, state.feed_forward_input,
                         state.feed_forward_norm);
}

void TransformerBlock::forget(Recompute recompute, State& state) const {
  state.recompute = recompute;
  if (recompute == Recompute::none) return;
  feed_forward_->forget(*state.feed_forward);
  if (recompute == Recompute::selective) return;
  state.attention.reset();
  state.attention_norm = RmsNormState();
  state.feed_forward_norm = RmsNormState();
  for (Tensor* tensor : {&state.attention_input, &state.middle, &state.feed_forward_input}) tensor->reset();
}

/// Runs again what forget made necessary. The block's output is not computed: nothing of backward reads it.
void TransformerBlock::restore(const LayerContext& ctx, const Parts& parts, const MicroBatch& batch,
                               State& state) const {
  if (state.recompute == Recompute::none) return;
  if (state.recompute == Recompute::block) attend(ctx, parts, batch, state);
  feed_forward_->recompute(ctx, parts.feed_forward, state.feed_forward_input, *state.feed_forward);
}

Tensor TransformerBlock::backward_input(const LayerContext& ctx, const BlockViews& weights, const MicroBatch& batch,
                                        BlockState& state, Tensor output_gradient) const {
  const Parts parts = parts_of(weights);
  auto& own = static_cast<State&>(state);
  restore(ctx, parts, batch, own);
  Tensor gradient = std::move(output_gradient);  // of the residual stream: both halves add to it in place

  Tensor inner = feed_forward_->backward_input(ctx, parts.feed_forward, gradient, *own.feed_forward);
  norm_.backward_input(ctx, parts.feed_forward_norm, own.middle, inner, 1, gradient, own.feed_forward_norm);
  own.middle.reset();
  inner.reset();

  inner = attention_->backward_input(ctx, parts.attention, batch, rotary_, gradient, *own.attention);
  norm_.backward_input(ctx, parts.attention_norm, own.input, inner, 1, gradient, own.attention_norm);
  own.input.reset();
  return gradient;
}

void TransformerBlock::backward_weight(const LayerContext& ctx, const MicroBatch&, BlockState& state,
                                       const BlockViews& gradients) const {
  const Parts parts = parts_of(gradients);
  auto& own = static_cast<State&>(state);
  feed_forward_->backward_weight(ctx, *own.feed_forward, parts.feed_forward);
  own.feed_forward.reset();
  own.feed_forward_input.reset();
  norm_.backward_weight(ctx, own.feed_forward_norm, parts.feed_forward_norm);

  attention_->backward_weight(ctx, *own.attention, parts.attention);
  own.attention.reset();
  own.attention_input.reset();
  norm_.backward_weight(ctx, own.attention_norm, parts.attention_norm);
}

}  // namespace moesaic
