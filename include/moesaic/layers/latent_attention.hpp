#pragma once
/// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values of all heads from one narrow row a token.

#include <string>

#include "moesaic/layers/rms_norm.hpp"
#include "moesaic/layers/sequence_exchange.hpp"
#include "moesaic/layers/sequence_mixer.hpp"

namespace moesaic {

struct LatentAttentionSpec {
  std::int64_t hidden = 0;
  std::int64_t heads = 0;
  std::int64_t query_rank = 0;  ///< of the queries' compression; 0: queries come from x directly
  std::int64_t key_value_rank = 0;
  std::int64_t plain_width = 0;   ///< of the part of a head's query and key that knows no position
  std::int64_t rotary_width = 0;  ///< of the part that does; of keys it is the same in all heads
  std::int64_t value_width = 0;
  double scale = 1;  ///< of the products of queries and keys
  double norm_eps = 1e-6;
  RotaryPairs pairs = RotaryPairs::interleaved;

  /// Of a head's query or key: the plain part, then the rotary one.
  std::int64_t query_width() const { return plain_width + rotary_width; }
};

/// With c_q, c, r = query_key_value(x), [tokens, query_rank], [tokens, key_value_rank] and [tokens, rotary_width]:
///   queries = query_up(norm(c_q)), of each head rotated in its last part (without compression c_q are the queries),
///   keys, values = key_value_up(norm(c)), each head's key followed by the rotated r,
///   y = output(softmax(scale q k^T) v), causal within each document.
/// Keys are put together again for backward rather than kept.
class LatentAttention : public SequenceMixer {
 public:
  /// Parameters are named `prefix`/...; `sequences` must outlive the layer.
  LatentAttention(const LatentAttentionSpec& spec, const std::string& prefix, SequenceExchange& sequences);

  /// query_key_value [query_rank + key_value_rank + rotary_width, hidden], key_value_norm [key_value_rank], key_value_up
  /// [heads * (plain_width + value_width), key_value_rank] (of each head the rows of its key, then of its value), output
  /// [hidden, heads * value_width]; compressed: query_norm [query_rank], query_up [heads * query_width, query_rank].
  const std::vector<ParameterSpec>& parameters() const override { return parameters_; }

  Tensor forward(const LayerContext&, std::span<const View> weights, const MicroBatch&, const RotaryTable&, ConstView x,
                 std::unique_ptr<SequenceMixerState>& state) const override;
  Tensor backward_input(const LayerContext&, std::span<const View> weights, const MicroBatch&, const RotaryTable&,
                        ConstView output_gradient, SequenceMixerState& state) const override;
  void backward_weight(const LayerContext&, SequenceMixerState& state, std::span<const View> gradients) const override;

 private:
  struct Projections;
  struct State;

  bool compressed() const { return spec_.query_rank > 0; }
  /// Width of the queries' columns in query_key_value's output.
  std::int64_t first_width() const { return compressed() ? spec_.query_rank : spec_.heads * spec_.query_width(); }

  // Parts of query_key_value's output, [tokens, width].
  View query_latents(const Projections&) const;
  View key_value_latents(const Projections&) const;
  View rotary_keys(const Projections&) const;
  // What attention reads or, of gradients, writes: [tokens, heads, width].
  View queries(const Projections&) const;
  View plain_keys(const Projections&) const;
  View values(const Projections&) const;

  void project(const LayerContext&, std::span<const View> weights, ConstView x, State& state) const;
  void rotate(const LayerContext&, const MicroBatch&, const RotaryTable&, RotaryDirection, const Projections&) const;
  Tensor join_keys(const LayerContext&, const Projections&) const;
  void attend(const LayerContext&, const MicroBatch&, State& state) const;
  void attend_backward(const LayerContext&, const MicroBatch&, ConstView output_gradient, const State& state,
                       const Projections& gradients) const;
  void project_backward(const LayerContext&, std::span<const View> weights, const Projections& gradients,
                        State& state) const;

  LatentAttentionSpec spec_;
  SequenceExchange& sequences_;
  RmsNorm norm_;
  std::vector<ParameterSpec> parameters_;
};

}  // namespace moesaic
