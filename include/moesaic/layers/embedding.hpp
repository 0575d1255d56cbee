#pragma once
/// The first block: token ids to hidden states.

#include "moesaic/layers/block.hpp"

namespace moesaic {

/// Unit "embedding" with "embedding/weight" [vocabulary, hidden].
class EmbeddingBlock : public ModelBlock {
 public:
  EmbeddingBlock(std::int64_t vocabulary, std::int64_t hidden);

  const std::vector<UnitSpec>& units() const override { return units_; }
  bool backward_reads_weights() const override { return false; }
  /// `hidden` is absent.
  Tensor forward(const LayerContext&, const BlockViews& weights, const MicroBatch&, Tensor hidden,
                 std::unique_ptr<BlockState>& state) const override;
  /// Returns an absent tensor.
  Tensor backward_input(const LayerContext&, const BlockViews& weights, const MicroBatch&, BlockState& state,
                        Tensor output_gradient) const override;
  void backward_weight(const LayerContext&, const MicroBatch&, BlockState& state,
                       const BlockViews& gradients) const override;

 private:
  std::int64_t hidden_;
  std::vector<UnitSpec> units_;
};

}  // namespace moesaic
