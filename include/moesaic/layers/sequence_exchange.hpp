#pragma once
/// The seam between attention and wherever the other tokens of its sequences are. Layers know no ranks: on one rank it
/// is the operator itself.

#include "moesaic/layers/context.hpp"

namespace moesaic {

/// Attention of this rank's queries over the keys and values of whole sequences, of which each rank holds the same part
/// of its own (MicroBatch). Tensors are those of the operators in kernels/attention.hpp, of this rank's tokens: q, k, v
/// and out [sequences, length, heads, width], of any widths, perhaps strided. The mask speaks of whole sequences: its
/// query_documents are those of this rank's tokens, its key_documents those of all tokens of the sequence.
/// All ranks that share sequences must do the same in the same order.
class SequenceExchange {
 public:
  virtual ~SequenceExchange() = default;

  /// Sets out and log_sum_exp [sequences, heads, length], both over all visible keys of the sequence.
  virtual void attention_forward(const LayerContext&, const AttentionMask&, double scale, ConstView q, ConstView k,
                                 ConstView v, View out, View log_sum_exp) = 0;

  /// Sets the gradients of this rank's q, k and v; those of k and v from the queries of all ranks.
  virtual void attention_backward(const LayerContext&, const AttentionMask&, double scale, ConstView q, ConstView k,
                                  ConstView v, ConstView out, ConstView log_sum_exp, ConstView out_gradient,
                                  View q_gradient, View k_gradient, View v_gradient) = 0;
};

/// Sequences are whole on this rank.
class LocalSequences : public SequenceExchange {
 public:
  void attention_forward(const LayerContext&, const AttentionMask&, double scale, ConstView q, ConstView k, ConstView v,
                         View out, View log_sum_exp) override;
  void attention_backward(const LayerContext&, const AttentionMask&, double scale, ConstView q, ConstView k,
                          ConstView v, ConstView out, ConstView log_sum_exp, ConstView out_gradient, View q_gradient,
                          View k_gradient, View v_gradient) override;
};

}  // namespace moesaic
