#pragma once
/// Multi-head attention with grouped queries, optional per-head norms and rotary positions.

#include <span>
#include <string>
#include <vector>

#include "moesaic/layers/context.hpp"
#include "moesaic/layers/micro_batch.hpp"
#include "moesaic/layers/parameter.hpp"
#include "moesaic/layers/rms_norm.hpp"
#include "moesaic/layers/rotary_table.hpp"
#include "moesaic/layers/sequence_exchange.hpp"

namespace moesaic {

struct AttentionSpec {
  std::int64_t hidden = 0;
  std::int64_t heads = 0;
  std::int64_t key_heads = 0;
  std::int64_t width = 0;  ///< of one head
  bool head_norm = false;  ///< RMSNorm on each query and key head before the rotation
  double norm_eps = 1e-6;
};

/// What forward leaves for backward. Queries, keys and values lie side by side in one row a token; with head norms the
/// queries and keys that attention reads lie in `rotated`, because the norm's backward needs those before it.
struct AttentionState {
  ConstView input;         ///< [tokens, hidden], the caller's
  Tensor query_key_value;  ///< [tokens, (heads + 2 key_heads) * width]; after the input gradient: its gradient
  Tensor rotated;          ///< [tokens, (heads + key_heads) * width], only with head norms
  RmsNormState query_norm, key_norm;
  Tensor output;           ///< [tokens, heads * width], before the output projection
  Tensor log_sum_exp;      ///< [sequences, heads, length], accumulator type
  Tensor output_gradient;  ///< [tokens, hidden], from the first half of backward to the second
};

/// output(softmax(q k^T / sqrt(width)) v) with q, k, v = query_key_value(x), causal within each document.
class Attention {
 public:
  /// Parameters are named `prefix`/query_key_value, `prefix`/output and, with head norms, `prefix`/query_norm, `prefix`/key_norm.
  /// `sequences` must outlive the layer.
  Attention(const AttentionSpec& spec, const std::string& prefix, SequenceExchange& sequences);

  /// query_key_value [(heads + 2 key_heads) * width, hidden] (rows of the queries, the keys, the values), output
  /// [hidden, heads * width], then the head norms [width].
  const std::vector<ParameterSpec>& parameters() const { return parameters_; }

  /// weights: views of parameters(), in order. x: [tokens, hidden], must stay alive until backward_weight.
  Tensor forward(const LayerContext&, std::span<const View> weights, const MicroBatch&, const RotaryTable&, ConstView x,
                 AttentionState& state) const;

  /// The gradient of x, [tokens, hidden].
  Tensor backward_input(const LayerContext&, std::span<const View> weights, const MicroBatch&, const RotaryTable&,
                        ConstView output_gradient, AttentionState& state) const;

  /// Adds to `gradients` (accumulator type) and leaves `state` empty.
  void backward_weight(const LayerContext&, AttentionState& state, std::span<const View> gradients) const;

 private:
  /// Strided views of the heads, [tokens, heads, width].
  struct Heads {
    View query, key, value;
  };
  Heads heads_of(View query_key_value) const;
  /// Queries and keys as attention reads them.
  Heads rotated_heads(const AttentionState&) const;
  void normalise(const LayerContext&, std::span<const View> weights, AttentionState& state) const;
  void rotate(const LayerContext&, const Heads&, const MicroBatch&, const RotaryTable&, RotaryDirection) const;
  void attend_backward(const LayerContext&, const MicroBatch&, ConstView gradient, const AttentionState&,
                       const Heads& gradients) const;
  void normalise_backward(const LayerContext&, std::span<const View> weights, const Heads& gradients,
                          AttentionState& state) const;

  AttentionSpec spec_;
  SequenceExchange& sequences_;
  RmsNorm norm_;
  std::vector<ParameterSpec> parameters_;
};

}  // namespace moesaic
