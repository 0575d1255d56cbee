#pragma once
/// The last block: final norm, logits and cross entropy.

#include "moesaic/layers/block.hpp"
#include "moesaic/layers/output_loss.hpp"

namespace moesaic {

struct HeadState : BlockState, OutputState {};

/// Unit "head" with "head/norm" [hidden] and "head/weight" [vocabulary, hidden]; tied, the table is a unit of its own,
/// "head_table", which shares the values of the embedding's.
class HeadBlock : public ModelBlock {
 public:
  HeadBlock(std::int64_t vocabulary, std::int64_t hidden, double norm_eps, bool tied);

  const std::vector<UnitSpec>& units() const override { return units_; }
  /// Sets `state` to a HeadState, whose losses outlive both halves of backward; returns an absent tensor.
  Tensor forward(const LayerContext&, const BlockViews& weights, const MicroBatch&, Tensor hidden,
                 std::unique_ptr<BlockState>& state) const override;
  /// The gradient of batch.loss_scale * loss_sum; output_gradient is absent.
  Tensor backward_input(const LayerContext&, const BlockViews& weights, const MicroBatch&, BlockState& state,
                        Tensor output_gradient) const override;
  void backward_weight(const LayerContext&, const MicroBatch&, BlockState& state,
                       const BlockViews& gradients) const override;

 private:
  OutputViews parts_of(const BlockViews& views) const { return {views[0][0], tied_ ? views[1][0] : views[0][1]}; }

  bool tied_;
  OutputLoss output_;
  std::vector<UnitSpec> units_;
};

}  // namespace moesaic
