#include "moesaic/layers/latent_attention.hpp"

#include "moesaic/layers/linear.hpp"
#include "moesaic/layers/sequence_views.hpp"

#include <utility>

namespace moesaic {
namespace {

// The order of parameters(); the last two only with compressed queries.
enum : std::size_t { query_key_value, key_value_norm, key_value_up, output, query_norm, query_up };

Tensor empty_like(const LayerContext& ctx, const Tensor& tensor) {
  return tensor.absent() ? Tensor() : ctx.activation(tensor.view().extents());
}

}  // namespace

/// What the projections make of a micro-batch, or the gradients of that.
struct LatentAttention::Projections {
  Tensor first;      ///< [tokens, first_width + key_value_rank + rotary_width], of query_key_value
  Tensor query;      ///< [tokens, heads * query_width], of query_up, if compressed
  Tensor key_value;  ///< [tokens, heads * (plain_width + value_width)], of key_value_up
};

struct LatentAttention::State : SequenceMixerState {
  ConstView input;           ///< [tokens, hidden], the caller's
  Projections projections;   ///< rotated; after the input gradient: their gradients
  Tensor key_value_latents;  ///< [tokens, key_value_rank], normalised
  Tensor query_latents;      ///< [tokens, query_rank], normalised, if compressed
  RmsNormState key_value_norm, query_norm;
  Tensor output;           ///< [tokens, heads * value_width], before the output projection
  Tensor log_sum_exp;      ///< [sequences, heads, length], accumulator type
  Tensor output_gradient;  ///< [tokens, hidden], from the first half of backward to the second
};

LatentAttention::LatentAttention(const LatentAttentionSpec& spec, const std::string& prefix,
                                 SequenceExchange& sequences)
    : spec_(spec), sequences_(sequences), norm_(spec.norm_eps) {
  const auto norm = [&](const char* name, std::int64_t width) {
    return ParameterSpec{prefix + name, {width}, Initialisation::ones, false};
  };
  const auto product = [&](const char* name, std::int64_t outputs, std::int64_t inputs) {
    return ParameterSpec{.name = prefix + name, .shape = {outputs, inputs}, .product = true};
  };
  const std::int64_t rank = spec.key_value_rank;
  parameters_ = {product("/query_key_value", first_width() + rank + spec.rotary_width, spec.hidden),
                 norm("/key_value_norm", rank),
                 product("/key_value_up", spec.heads * (spec.plain_width + spec.value_width), rank),
                 product("/output", spec.hidden, spec.heads * spec.value_width)};
  if (!compressed()) return;
  parameters_.push_back(norm("/query_norm", spec.query_rank));
  parameters_.push_back(product("/query_up", spec.heads * spec.query_width(), spec.query_rank));
}

Tensor LatentAttention::forward(const LayerContext& ctx, std::span<const View> weights, const MicroBatch& batch,
                                const RotaryTable& table, ConstView x,
                                std::unique_ptr<SequenceMixerState>& state) const {
  auto own = std::make_unique<State>();
  project(ctx, weights, x, *own);
  rotate(ctx, batch, table, RotaryDirection::forward, own->projections);
  attend(ctx, batch, *own);
  Tensor y = ctx.activation({x.extent(0), spec_.hidden});
  linear_forward(ctx, own->output, weights[output], y);
  state = std::move(own);
  return y;
}

Tensor LatentAttention::backward_input(const LayerContext& ctx, std::span<const View> weights, const MicroBatch& batch,
                                       const RotaryTable& table, ConstView output_gradient,
                                       SequenceMixerState& state) const {
  auto& own = static_cast<State&>(state);
  const Projections& made = own.projections;
  own.output_gradient = kept_copy(ctx, output_gradient);
  Projections gradients{empty_like(ctx, made.first), empty_like(ctx, made.query), empty_like(ctx, made.key_value)};
  {
    Tensor gradient = ctx.workspace(own.output.view().extents());
    linear_backward_input(ctx, output_gradient, weights[output], 0, gradient);
    attend_backward(ctx, batch, gradient, own, gradients);
  }
  own.log_sum_exp.reset();
  rotate(ctx, batch, table, RotaryDirection::backward, gradients);
  project_backward(ctx, weights, gradients, own);
  own.projections = std::move(gradients);

  Tensor x_gradient = ctx.activation(own.input.extents());
  linear_backward_input(ctx, own.projections.first, weights[query_key_value], 0, x_gradient);
  return x_gradient;
}

void LatentAttention::backward_weight(const LayerContext& ctx, SequenceMixerState& state,
                                      std::span<const View> gradients) const {
  auto& own = static_cast<State&>(state);
  linear_backward_weight(ctx, own.projections.first, own.input, gradients[query_key_value]);
  linear_backward_weight(ctx, own.projections.key_value, own.key_value_latents, gradients[key_value_up]);
  norm_.backward_weight(ctx, own.key_value_norm, gradients[key_value_norm]);
  linear_backward_weight(ctx, own.output_gradient, own.output, gradients[output]);
  if (compressed()) {
    linear_backward_weight(ctx, own.projections.query, own.query_latents, gradients[query_up]);
    norm_.backward_weight(ctx, own.query_norm, gradients[query_norm]);
  }
  own = State();
}

View LatentAttention::query_latents(const Projections& from) const {
  return View(from.first).slice(1, 0, first_width());
}

View LatentAttention::key_value_latents(const Projections& from) const {
  return View(from.first).slice(1, first_width(), first_width() + spec_.key_value_rank);
}

View LatentAttention::rotary_keys(const Projections& from) const {
  const View first = from.first;
  return first.slice(1, first_width() + spec_.key_value_rank, first.extent(1));
}

View LatentAttention::queries(const Projections& from) const {
  const View rows = compressed() ? View(from.query) : query_latents(from);
  return rows.split_last(spec_.heads, spec_.query_width());
}

View LatentAttention::plain_keys(const Projections& from) const {
  const View heads = View(from.key_value).split_last(spec_.heads, spec_.plain_width + spec_.value_width);
  return heads.slice(2, 0, spec_.plain_width);
}

View LatentAttention::values(const Projections& from) const {
  const View heads = View(from.key_value).split_last(spec_.heads, spec_.plain_width + spec_.value_width);
  return heads.slice(2, spec_.plain_width, heads.extent(2));
}

void LatentAttention::project(const LayerContext& ctx, std::span<const View> weights, ConstView x, State& state) const {
  const std::int64_t tokens = x.extent(0);
  Projections& made = state.projections;
  state.input = x;
  made.first = ctx.activation({tokens, weights[query_key_value].extent(0)});
  linear_forward(ctx, x, weights[query_key_value], made.first);

  state.key_value_latents = ctx.activation({tokens, spec_.key_value_rank});
  norm_.forward(ctx, weights[key_value_norm], key_value_latents(made), state.key_value_latents, state.key_value_norm);
  made.key_value = ctx.activation({tokens, weights[key_value_up].extent(0)});
  linear_forward(ctx, state.key_value_latents, weights[key_value_up], made.key_value);
  if (!compressed()) return;

  state.query_latents = ctx.activation({tokens, spec_.query_rank});
  norm_.forward(ctx, weights[query_norm], query_latents(made), state.query_latents, state.query_norm);
  made.query = ctx.activation({tokens, weights[query_up].extent(0)});
  linear_forward(ctx, state.query_latents, weights[query_up], made.query);
}

/// From the gradients of queries, keys and values to that of query_key_value's output, which is one of them.
void LatentAttention::project_backward(const LayerContext& ctx, std::span<const View> weights,
                                       const Projections& gradients, State& state) const {
  const auto through = [&](ConstView gradient, ConstView up, ConstView norm, View latents, View latents_gradient,
                           RmsNormState& norm_state) {
    Tensor inner = ctx.workspace(latents.extents());
    linear_backward_input(ctx, gradient, up, 0, inner);
    norm_.backward_input(ctx, norm, latents, inner, 0, latents_gradient, norm_state);
  };
  through(gradients.key_value, weights[key_value_up], weights[key_value_norm], key_value_latents(state.projections),
          key_value_latents(gradients), state.key_value_norm);
  if (!compressed()) return;
  through(gradients.query, weights[query_up], weights[query_norm], query_latents(state.projections),
          query_latents(gradients), state.query_norm);
}

/// In place, the rotary parts of queries and keys.
void LatentAttention::rotate(const LayerContext& ctx, const MicroBatch& batch, const RotaryTable& table,
                             RotaryDirection direction, const Projections& projections) const {
  const View rotary_queries = queries(projections).slice(2, spec_.plain_width, spec_.query_width());
  for (View part : {rotary_queries, rotary_keys(projections).split_last(1, spec_.rotary_width)})
    ctx.ops->rotary(ctx.on, part, table.cosine(), table.sine(), batch.positions, spec_.pairs, direction);
}

/// [tokens, heads, query_width].
Tensor LatentAttention::join_keys(const LayerContext& ctx, const Projections& from) const {
  Tensor keys = ctx.workspace(queries(from).extents());
  ctx.ops->join_keys(ctx.on, plain_keys(from), rotary_keys(from), keys);
  return keys;
}

void LatentAttention::attend(const LayerContext& ctx, const MicroBatch& batch, State& state) const {
  const Projections& made = state.projections;
  const Tensor keys = join_keys(ctx, made);
  state.output = ctx.activation({batch.tokens(), spec_.heads * spec_.value_width});
  state.log_sum_exp = ctx.activation(ctx.accumulator(), {batch.sequences, spec_.heads, batch.length});
  sequences_.attention_forward(ctx, mask_of(batch), spec_.scale, by_sequence(queries(made), batch),
                               by_sequence(keys.view(), batch), by_sequence(values(made), batch),
                               by_sequence(state.output.view().split_last(spec_.heads, spec_.value_width), batch),
                               state.log_sum_exp);
}

void LatentAttention::attend_backward(const LayerContext& ctx, const MicroBatch& batch, ConstView output_gradient,
                                      const State& state, const Projections& gradients) const {
  const Projections& made = state.projections;
  const auto heads = [&](const auto& rows) {
    return by_sequence(rows.split_last(spec_.heads, spec_.value_width), batch);
  };
  const Tensor keys = join_keys(ctx, made), keys_gradient = ctx.workspace(keys.view().extents());
  sequences_.attention_backward(ctx, mask_of(batch), spec_.scale, by_sequence(queries(made), batch),
                                by_sequence(keys.view(), batch), by_sequence(values(made), batch),
                                heads(state.output.view()), state.log_sum_exp, heads(output_gradient),
                                by_sequence(queries(gradients), batch), by_sequence(keys_gradient.view(), batch),
                                by_sequence(values(gradients), batch));
  ctx.ops->join_keys_backward(ctx.on, keys_gradient, plain_keys(gradients), rotary_keys(gradients));
}

}  // namespace moesaic
