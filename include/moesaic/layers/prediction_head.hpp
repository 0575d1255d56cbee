#pragma once
/// The last block of a model that is trained with multi-token prediction: the head, and one more depth behind it.

#include "moesaic/layers/head.hpp"

namespace moesaic {

struct PredictionHeadState : HeadState {
  OutputState prediction;  ///< absent tensors unless the micro-batch predicts
};

/// One depth as in DeepSeek-V3 (arXiv 2412.19437, section 2.2), with table and head shared:
///   x = projection [norm_e(embedding[next_ids]); norm_h(h)], y = block(x), logits = head norm_p(y),
/// where h is what the head's own logits come from, behind the final norm, and the embedding comes first, as published
/// weights have it. The labels are next_labels; attention sees what the main model's does, at the same positions.
/// Units: "head" as of HeadBlock; those of the block; "prediction" with "prediction/embedding_norm" [hidden],
/// "prediction/hidden_norm" [hidden], "prediction/projection" [hidden, 2 * hidden] and "prediction/norm" [hidden];
/// "prediction_table", which shares the values of the embedding's. Micro-batches that do not predict get the head alone.
class PredictionHead : public ModelBlock {
 public:
  /// block: a transformer block of its own.
  PredictionHead(std::int64_t vocabulary, std::int64_t hidden, double norm_eps, std::unique_ptr<ModelBlock> block);

  const std::vector<UnitSpec>& units() const override { return units_; }
  /// Sets `state` to a PredictionHeadState, whose losses outlive both halves of backward; returns an absent tensor.
  Tensor forward(const LayerContext&, const BlockViews& weights, const MicroBatch&, Tensor hidden,
                 std::unique_ptr<BlockState>& state) const override;
  /// The gradient of batch.loss_scale * loss_sum + batch.prediction_scale * prediction.loss_sum; output_gradient is absent.
  Tensor backward_input(const LayerContext&, const BlockViews& weights, const MicroBatch&, BlockState& state,
                        Tensor output_gradient) const override;
  void backward_weight(const LayerContext&, const MicroBatch&, BlockState& state,
                       const BlockViews& gradients) const override;

 private:
  struct State;
  struct Parts {
    OutputViews head;
    BlockViews block;
    View embedding_norm, hidden_norm, projection;
    OutputViews prediction;  ///< with the head's table
    View table;              ///< [vocabulary, hidden], the embedding's
  };

  Parts parts_of(const BlockViews& views) const;
  void predict(const LayerContext&, const Parts& weights, const MicroBatch&, State& state) const;
  void predict_backward(const LayerContext&, const Parts& weights, const MicroBatch&, View hidden_gradient,
                        State& state) const;

  std::int64_t hidden_;
  RmsNorm norm_;
  OutputLoss output_;
  std::unique_ptr<ModelBlock> block_;
  std::vector<UnitSpec> units_;
};

}  // namespace moesaic
