#include "moesaic/layers/attention.hpp"

#include "moesaic/layers/linear.hpp"
#include "moesaic/layers/sequence_views.hpp"

#include <cmath>
#include <utility>

namespace moesaic {
namespace {

enum : std::size_t { query_key_value, output };  // the first of parameters()
enum : std::size_t { query, key };               // of the norms

/// [tokens, heads * width] as [sequences, length, heads, width].
View by_sequence(View rows, const MicroBatch& batch, const AttentionSpec& spec) {
  return by_sequence(rows.split_last(spec.heads, spec.width), batch);
}

void add_bias(const LayerContext& ctx, const View& bias, View rows) {
  ctx.ops->add_bias(ctx.on, bias.reshape({1, bias.size()}), {}, rows);
}

void add_bias_gradient(const LayerContext& ctx, ConstView rows_gradient, const View& gradient) {
  ctx.ops->bias_gradient(ctx.on, rows_gradient, {}, gradient.reshape({1, gradient.size()}));
}

double scale_of(const AttentionSpec& spec) { return 1 / std::sqrt(static_cast<double>(spec.width)); }

}  // namespace

Attention::Attention(const AttentionSpec& spec, const std::string& prefix, SequenceExchange& sequences)
    : spec_(spec), sequences_(sequences), norm_(spec.norm_eps) {
  const std::int64_t fused = (spec.heads + 2 * spec.key_heads) * spec.width;
  parameters_ = {{.name = prefix + "/query_key_value", .shape = {fused, spec.hidden}, .product = true},
                 {.name = prefix + "/output", .shape = {spec.hidden, spec.heads * spec.width}, .product = true}};
  norms_ = parameters_.size();
  if (spec.head_norm)
    for (const char* name : {"/query_norm", "/key_norm"})
      parameters_.push_back({prefix + name, {spec.width}, Initialisation::ones, false});
  bias_ = parameters_.size();
  if (spec.bias) parameters_.push_back({prefix + "/query_key_value_bias", {fused}, Initialisation::zeros, false});
  output_bias_ = parameters_.size();
  if (spec.output_bias) parameters_.push_back({prefix + "/output_bias", {spec.hidden}, Initialisation::zeros, false});
  sinks_ = parameters_.size();
  if (spec.sinks) parameters_.push_back({prefix + "/sinks", {spec.heads}, Initialisation::normal, false});
}

Tensor Attention::forward(const LayerContext& ctx, std::span<const View> weights, const MicroBatch& batch,
                          const RotaryTable& table, ConstView x, std::unique_ptr<SequenceMixerState>& state) const {
  const std::int64_t tokens = x.extent(0);
  auto own = std::make_unique<AttentionState>();
  own->input = x;
  const Heads heads = project(ctx, weights, batch, table, *own);
  own->output = ctx.activation({tokens, spec_.heads * spec_.width});
  own->log_sum_exp = ctx.activation(ctx.accumulator(), {batch.sequences, spec_.heads, batch.length});
  const View attended = by_sequence(own->output, batch, spec_);
  sequences_.attention_forward(ctx, mask_of(batch, spec_.window), scale_of(spec_), by_sequence(heads.query, batch),
                               by_sequence(heads.key, batch), by_sequence(heads.value, batch), attended,
                               own->log_sum_exp);
  if (spec_.sinks) ctx.ops->attention_sink(ctx.on, weights[sinks_], attended, own->log_sum_exp);
  Tensor y = ctx.activation({tokens, spec_.hidden});
  linear_forward(ctx, own->output, weights[output], y);
  if (spec_.output_bias) add_bias(ctx, weights[output_bias_], y);
  state = std::move(own);
  return y;
}

Tensor Attention::backward_input(const LayerContext& ctx, std::span<const View> weights, const MicroBatch& batch,
                                 const RotaryTable& table, ConstView output_gradient, SequenceMixerState& state) const {
  auto& own = static_cast<AttentionState&>(state);
  own.output_gradient = kept_copy(ctx, output_gradient);
  Tensor fused_gradient = ctx.activation(own.query_key_value.view().extents());
  const Heads gradients = heads_of(fused_gradient);
  {
    Tensor gradient = ctx.workspace(own.output.view().extents());
    linear_backward_input(ctx, output_gradient, weights[output], 0, gradient);
    if (spec_.sinks) differentiate_sinks(ctx, weights, batch, gradient, own);
    attend_backward(ctx, batch, gradient, own, gradients);
  }
  own.rotated.reset();
  own.log_sum_exp.reset();
  if (spec_.head_norm)
    normalise_backward(ctx, weights, batch, table, gradients, own);
  else
    rotate(ctx, gradients, batch, table, RotaryDirection::backward);
  own.query_key_value = std::move(fused_gradient);

  Tensor x_gradient = ctx.activation(own.input.extents());
  linear_backward_input(ctx, own.query_key_value, weights[query_key_value], 0, x_gradient);
  return x_gradient;
}

void Attention::backward_weight(const LayerContext& ctx, SequenceMixerState& state,
                                std::span<const View> gradients) const {
  auto& own = static_cast<AttentionState&>(state);
  linear_backward_weight(ctx, own.query_key_value, own.input, gradients[query_key_value]);
  linear_backward_weight(ctx, own.output_gradient, own.output, gradients[output]);
  if (spec_.head_norm) {
    norm_.backward_weight(ctx, own.query_norm, gradients[norms_ + query]);
    norm_.backward_weight(ctx, own.key_norm, gradients[norms_ + key]);
  }
  if (spec_.bias) add_bias_gradient(ctx, own.query_key_value, gradients[bias_]);
  if (spec_.output_bias) add_bias_gradient(ctx, own.output_gradient, gradients[output_bias_]);
  if (spec_.sinks) ctx.ops->accumulate(ctx.on, own.sinks_gradient, gradients[sinks_]);
  own = AttentionState();
}

Attention::Heads Attention::project(const LayerContext& ctx, std::span<const View> weights, const MicroBatch& batch,
                                    const RotaryTable& table, AttentionState& state) const {
  state.query_key_value = ctx.activation({state.input.extent(0), weights[query_key_value].extent(0)});
  linear_forward(ctx, state.input, weights[query_key_value], state.query_key_value);
  if (spec_.bias) add_bias(ctx, weights[bias_], state.query_key_value);
  if (spec_.head_norm) return normalise(ctx, weights, batch, table, state);
  const Heads heads = heads_of(state.query_key_value);
  rotate(ctx, heads, batch, table, RotaryDirection::forward);
  return heads;
}

void Attention::differentiate_sinks(const LayerContext& ctx, std::span<const View> weights, const MicroBatch& batch,
                                    View gradient, AttentionState& state) const {
  state.sinks_gradient = ctx.activation(ctx.accumulator(), {spec_.heads});
  ctx.ops->fill(ctx.on, 0, state.sinks_gradient);
  ctx.ops->attention_sink_backward(ctx.on, weights[sinks_], by_sequence(state.output, batch, spec_), state.log_sum_exp,
                                   by_sequence(gradient, batch, spec_), state.sinks_gradient);
}

Attention::Heads Attention::heads_of(View fused) const {
  const std::int64_t keys = spec_.heads * spec_.width, values = keys + spec_.key_heads * spec_.width;
  return {.query = fused.slice(1, 0, keys).split_last(spec_.heads, spec_.width),
          .key = fused.slice(1, keys, values).split_last(spec_.key_heads, spec_.width),
          .value = fused.slice(1, values, fused.extent(1)).split_last(spec_.key_heads, spec_.width)};
}

Attention::Heads Attention::rotated_heads(const AttentionState& state) const {
  Heads heads = heads_of(state.query_key_value);
  if (!spec_.head_norm) return heads;
  const std::int64_t keys = spec_.heads * spec_.width;
  const View rotated = state.rotated;
  heads.query = rotated.slice(1, 0, keys).split_last(spec_.heads, spec_.width);
  heads.key = rotated.slice(1, keys, rotated.extent(1)).split_last(spec_.key_heads, spec_.width);
  return heads;
}

Attention::Heads Attention::normalise(const LayerContext& ctx, std::span<const View> weights, const MicroBatch& batch,
                                      const RotaryTable& table, AttentionState& state) const {
  state.rotated = ctx.activation({batch.tokens(), (spec_.heads + spec_.key_heads) * spec_.width});
  const Heads from = heads_of(state.query_key_value), to = rotated_heads(state);
  norm_.forward_rotary(ctx, weights[norms_ + query], table, batch.positions, from.query, to.query, state.query_norm);
  norm_.forward_rotary(ctx, weights[norms_ + key], table, batch.positions, from.key, to.key, state.key_norm);
  return to;
}

void Attention::rotate(const LayerContext& ctx, const Heads& heads, const MicroBatch& batch, const RotaryTable& table,
                       RotaryDirection direction) const {
  const std::int64_t width = spec_.rotary_width > 0 ? spec_.rotary_width : spec_.width;
  for (const View& x : {heads.query, heads.key}) {
    ctx.ops->rotary(ctx.on, x.slice(2, 0, width), table.cosine(), table.sine(), batch.positions, RotaryPairs::halves,
                    direction);
  }
}

void Attention::attend_backward(const LayerContext& ctx, const MicroBatch& batch, ConstView gradient,
                                const AttentionState& state, const Heads& gradients) const {
  const Heads heads = rotated_heads(state);
  const auto gradient_by_sequence =
      gradient.split_last(spec_.heads, spec_.width).split_first(batch.sequences, batch.length);
  sequences_.attention_backward(ctx, mask_of(batch, spec_.window), scale_of(spec_), by_sequence(heads.query, batch),
                                by_sequence(heads.key, batch), by_sequence(heads.value, batch),
                                by_sequence(state.output, batch, spec_), state.log_sum_exp, gradient_by_sequence,
                                by_sequence(gradients.query, batch), by_sequence(gradients.key, batch),
                                by_sequence(gradients.value, batch));
}

void Attention::normalise_backward(const LayerContext& ctx, std::span<const View> weights, const MicroBatch& batch,
                                   const RotaryTable& table, const Heads& gradients, AttentionState& state) const {
  const Heads from = heads_of(state.query_key_value);
  norm_.backward_input_rotary(ctx, weights[norms_ + query], table, batch.positions, from.query, gradients.query,
                              state.query_norm);
  norm_.backward_input_rotary(ctx, weights[norms_ + key], table, batch.positions, from.key, gradients.key,
                              state.key_norm);
}

}  // namespace moesaic
