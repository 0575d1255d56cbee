#include "moesaic/layers/attention.hpp"

#include "moesaic/layers/linear.hpp"

#include <cmath>
#include <utility>

namespace moesaic {
namespace {

enum : std::size_t { query_key_value, output, query_norm, key_norm };  // the order of parameters()

/// [tokens, heads, width] as [sequences, length, heads, width].
View by_sequence(View heads, const MicroBatch& batch) { return heads.split_first(batch.sequences, batch.length); }

/// [tokens, heads * width] as [sequences, length, heads, width].
View by_sequence(View rows, const MicroBatch& batch, const AttentionSpec& spec) {
  return by_sequence(rows.split_last(spec.heads, spec.width), batch);
}

AttentionMask mask_of(const MicroBatch& batch) {
  const bool cut = batch.parts > 1;
  return {
      .causal = true, .query_documents = batch.documents, .key_documents = cut ? batch.key_documents : batch.documents};
}

double scale_of(const AttentionSpec& spec) { return 1 / std::sqrt(static_cast<double>(spec.width)); }

}  // namespace

Attention::Attention(const AttentionSpec& spec, const std::string& prefix, SequenceExchange& sequences)
    : spec_(spec), sequences_(sequences), norm_(spec.norm_eps) {
  const std::int64_t fused = (spec.heads + 2 * spec.key_heads) * spec.width;
  parameters_ = {{prefix + "/query_key_value", {fused, spec.hidden}},
                 {prefix + "/output", {spec.hidden, spec.heads * spec.width}}};
  if (!spec.head_norm) return;
  parameters_.push_back({prefix + "/query_norm", {spec.width}, Initialisation::ones, false});
  parameters_.push_back({prefix + "/key_norm", {spec.width}, Initialisation::ones, false});
}

Tensor Attention::forward(const LayerContext& ctx, std::span<const View> weights, const MicroBatch& batch,
                          const RotaryTable& table, ConstView x, AttentionState& state) const {
  const std::int64_t tokens = x.extent(0);
  state.input = x;
  state.query_key_value = ctx.activation({tokens, weights[query_key_value].extent(0)});
  linear_forward(ctx, x, weights[query_key_value], state.query_key_value);
  if (spec_.head_norm) normalise(ctx, weights, state);
  const Heads heads = rotated_heads(state);
  rotate(ctx, heads, batch, table, RotaryDirection::forward);

  state.output = ctx.activation({tokens, spec_.heads * spec_.width});
  state.log_sum_exp = ctx.activation(ctx.accumulator(), {batch.sequences, spec_.heads, batch.length});
  sequences_.attention_forward(ctx, mask_of(batch), scale_of(spec_), by_sequence(heads.query, batch),
                               by_sequence(heads.key, batch), by_sequence(heads.value, batch),
                               by_sequence(state.output, batch, spec_), state.log_sum_exp);
  Tensor y = ctx.activation({tokens, spec_.hidden});
  linear_forward(ctx, state.output, weights[output], y);
  return y;
}

Tensor Attention::backward_input(const LayerContext& ctx, std::span<const View> weights, const MicroBatch& batch,
                                 const RotaryTable& table, ConstView output_gradient, AttentionState& state) const {
  state.output_gradient = kept_copy(ctx, output_gradient);
  Tensor fused_gradient = ctx.activation(state.query_key_value.view().extents());
  const Heads gradients = heads_of(fused_gradient);
  {
    Tensor gradient = ctx.workspace(state.output.view().extents());
    linear_backward_input(ctx, output_gradient, weights[output], 0, gradient);
    attend_backward(ctx, batch, gradient, state, gradients);
  }
  state.rotated.reset();
  state.log_sum_exp.reset();
  rotate(ctx, gradients, batch, table, RotaryDirection::backward);
  if (spec_.head_norm) normalise_backward(ctx, weights, gradients, state);
  state.query_key_value = std::move(fused_gradient);

  Tensor x_gradient = ctx.activation(state.input.extents());
  linear_backward_input(ctx, state.query_key_value, weights[query_key_value], 0, x_gradient);
  return x_gradient;
}

void Attention::backward_weight(const LayerContext& ctx, AttentionState& state, std::span<const View> gradients) const {
  linear_backward_weight(ctx, state.query_key_value, state.input, gradients[query_key_value]);
  linear_backward_weight(ctx, state.output_gradient, state.output, gradients[output]);
  if (spec_.head_norm) {
    norm_.backward_weight(ctx, state.query_norm, gradients[query_norm]);
    norm_.backward_weight(ctx, state.key_norm, gradients[key_norm]);
  }
  state = AttentionState();
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

void Attention::normalise(const LayerContext& ctx, std::span<const View> weights, AttentionState& state) const {
  const std::int64_t tokens = state.query_key_value.view().extent(0);
  state.rotated = ctx.activation({tokens, (spec_.heads + spec_.key_heads) * spec_.width});
  const Heads from = heads_of(state.query_key_value), to = rotated_heads(state);
  norm_.forward(ctx, weights[query_norm], from.query, to.query, state.query_norm);
  norm_.forward(ctx, weights[key_norm], from.key, to.key, state.key_norm);
}

void Attention::rotate(const LayerContext& ctx, const Heads& heads, const MicroBatch& batch, const RotaryTable& table,
                       RotaryDirection direction) const {
  for (View x : {heads.query, heads.key}) {
    ctx.ops->rotary(ctx.on, x, table.cosine(), table.sine(), batch.positions, RotaryPairs::halves, direction);
  }
}

void Attention::attend_backward(const LayerContext& ctx, const MicroBatch& batch, ConstView gradient,
                                const AttentionState& state, const Heads& gradients) const {
  const Heads heads = rotated_heads(state);
  const auto gradient_by_sequence =
      gradient.split_last(spec_.heads, spec_.width).split_first(batch.sequences, batch.length);
  sequences_.attention_backward(
      ctx, mask_of(batch), scale_of(spec_), by_sequence(heads.query, batch), by_sequence(heads.key, batch),
      by_sequence(heads.value, batch), by_sequence(state.output, batch, spec_), state.log_sum_exp, gradient_by_sequence,
      by_sequence(gradients.query, batch), by_sequence(gradients.key, batch), by_sequence(gradients.value, batch));
}

void Attention::normalise_backward(const LayerContext& ctx, std::span<const View> weights, const Heads& gradients,
                                   AttentionState& state) const {
  const Heads from = heads_of(state.query_key_value);
  norm_.backward_input(ctx, weights[query_norm], from.query, gradients.query, 0, gradients.query, state.query_norm);
  norm_.backward_input(ctx, weights[key_norm], from.key, gradients.key, 0, gradients.key, state.key_norm);
}

}  // namespace moesaic
