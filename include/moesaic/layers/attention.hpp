#pragma once
/// Multi-head attention with grouped queries, optional per-head norms and rotary positions.

#include <span>
#include <string>
#include <vector>

#include "moesaic/layers/rms_norm.hpp"
#include "moesaic/layers/sequence_exchange.hpp"
#include "moesaic/layers/sequence_mixer.hpp"

namespace moesaic {

struct AttentionSpec {
  std::int64_t hidden = 0;
  std::int64_t heads = 0;
  std::int64_t key_heads = 0;
  std::int64_t width = 0;  ///< of one head
  bool head_norm = false;  ///< RMSNorm on each query and key head before the rotation
  double norm_eps = 1e-6;
  std::int64_t rotary_width = 0;  ///< elements of a head, from its first, that are rotated; 0: all
  bool bias = false;              ///< of the projections to queries, keys and values
  bool output_bias = false;
  bool sinks = false;       ///< a learned logit a head beside those of the keys (kernels/attention_sink.hpp)
  std::int64_t window = 0;  ///< keys that a query sees, itself counted; 0: all before it
};

/// What forward leaves for backward. Queries, keys and values lie side by side in one row a token; with head norms the
/// queries and keys that attention reads lie in `rotated`, because the norm's backward needs those before it.
struct AttentionState : SequenceMixerState {
  ConstView input;         ///< [tokens, hidden], the caller's
  Tensor query_key_value;  ///< [tokens, (heads + 2 key_heads) * width]; after the input gradient: its gradient
  Tensor rotated;          ///< [tokens, (heads + key_heads) * width], only with head norms
  RmsNormState query_norm, key_norm;
  Tensor output;           ///< [tokens, heads * width], before the output projection
  Tensor log_sum_exp;      ///< [sequences, heads, length], accumulator type
  Tensor output_gradient;  ///< [tokens, hidden], from the first half of backward to the second
  Tensor sinks_gradient;   ///< accumulator type [heads], likewise
};

/// output(softmax(q k^T / sqrt(width)) v) with q, k, v = query_key_value(x), causal within each document and, if there is one,
/// the window.
class Attention : public SequenceMixer {
 public:
  /// Names of parameters begin with `prefix`/. `sequences` must outlive the layer.
  Attention(const AttentionSpec& spec, const std::string& prefix, SequenceExchange& sequences);

  /// query_key_value [(heads + 2 key_heads) * width, hidden] (rows of the queries, the keys, the values), output
  /// [hidden, heads * width]; then, if the spec has them, query_norm and key_norm [width], query_key_value_bias,
  /// output_bias [hidden], sinks [heads].
  const std::vector<ParameterSpec>& parameters() const override { return parameters_; }

  Tensor forward(const LayerContext&, std::span<const View> weights, const MicroBatch&, const RotaryTable&, ConstView x,
                 std::unique_ptr<SequenceMixerState>& state) const override;
  Tensor backward_input(const LayerContext&, std::span<const View> weights, const MicroBatch&, const RotaryTable&,
                        ConstView output_gradient, SequenceMixerState& state) const override;
  void backward_weight(const LayerContext&, SequenceMixerState& state, std::span<const View> gradients) const override;

 private:
  /// Strided views of the heads, [tokens, heads, width].
  struct Heads {
    View query, key, value;
  };
  Heads heads_of(View query_key_value) const;
  /// Queries and keys as attention reads them.
  Heads rotated_heads(const AttentionState&) const;
  /// Queries, keys and values, as attention reads them.
  Heads project(const LayerContext&, std::span<const View> weights, const MicroBatch&, const RotaryTable&,
                AttentionState& state) const;
  /// The same with head norms.
  Heads normalise(const LayerContext&, std::span<const View> weights, const MicroBatch&, const RotaryTable&,
                  AttentionState& state) const;
  void rotate(const LayerContext&, const Heads&, const MicroBatch&, const RotaryTable&, RotaryDirection) const;
  void attend_backward(const LayerContext&, const MicroBatch&, ConstView gradient, const AttentionState&,
                       const Heads& gradients) const;
  void differentiate_sinks(const LayerContext&, std::span<const View> weights, const MicroBatch&, View gradient,
                           AttentionState& state) const;
  void normalise_backward(const LayerContext&, std::span<const View> weights, const MicroBatch&, const RotaryTable&,
                          const Heads& gradients, AttentionState& state) const;

  AttentionSpec spec_;
  SequenceExchange& sequences_;
  RmsNorm norm_;
  std::vector<ParameterSpec> parameters_;
  std::size_t norms_ = 0, bias_ = 0, output_bias_ = 0, sinks_ = 0;  ///< where they begin among parameters_
};

}  // namespace moesaic
