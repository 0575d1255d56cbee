#pragma once
/// The tokens of one forward and backward on one rank.

#include "moesaic/tensor/view.hpp"

namespace moesaic {

/// tokens = sequences * length (this rank's part of each sequence, which may be of several pieces); zero sequences are
/// legal: the rank still takes part in every exchange.
struct MicroBatch {
  std::int64_t sequences = 0;
  std::int64_t length = 0;
  ConstView ids;        ///< i32 [tokens]
  ConstView labels;     ///< i32 [tokens], -1: not counted
  ConstView positions;  ///< i32 [tokens], position in the sequence
  ConstView documents;  ///< i32 [sequences, length], absent: one document a sequence

  std::int64_t parts = 1;   ///< into which each sequence is cut, as long as each other
  ConstView key_documents;  ///< i32 [sequences, parts * length]: documents of whole sequences; absent when uncut

  /// Multi-token prediction is trained on this micro-batch.
  bool predicts = false;
  ConstView next_ids;     ///< i32 [tokens]: of each token the one behind it
  ConstView next_labels;  ///< i32 [tokens]: the label one token further on, -1: not counted

  /// It can be cut into smaller ones, on all ranks alike: where receive buffers of experts overflow, their layer carries
  /// nothing, and the step is to be repeated. Else such a layer carries its tokens in rounds.
  bool divisible = false;

  /// Loss is scaled by this before it is differentiated: 1 / counted labels of the global batch.
  double loss_scale = 1;
  /// The same of the prediction's loss: its weight / counted next_labels of the global batch.
  double prediction_scale = 1;
  /// d(total loss) / d(sum of one MoE layer's auxiliary losses over this micro-batch's groups).
  double balance_gradient = 0;
  /// What turns that sum into this rank's share of the layer's mean auxiliary loss (a metric).
  double balance_weight = 0;
  /// In batch scope: tokens of this micro-batch over all ranks; 0 in sequence scope.
  std::int64_t balance_tokens = 0;

  std::int64_t tokens() const { return sequences * length; }
  /// Of a whole sequence.
  std::int64_t sequence_length() const { return parts * length; }
};

}  // namespace moesaic
