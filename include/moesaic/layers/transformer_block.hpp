#pragma once
/// A pre-norm transformer block: attention, then a dense or a mixture-of-experts feed-forward, each around a residual.

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "moesaic/layers/block.hpp"
#include "moesaic/layers/feed_forward.hpp"
#include "moesaic/layers/rms_norm.hpp"
#include "moesaic/layers/sequence_mixer.hpp"

namespace moesaic {

/// middle = x + attention(norm(x)), y = middle + feed_forward(norm(middle)).
/// Unit "blocks/<i>" with the norm, the attention's parameters, the second norm and the feed-forward's; a sparse block
/// has a second unit, "blocks/<i>/experts". What LayerContext::recompute says is not kept by forward but computed again at
/// the beginning of backward_input (Chen et al. 2016, arXiv 1604.06174), from where it stays until backward_weight.
class TransformerBlock : public ModelBlock {
 public:
  /// `attention`, any kind, and `feed_forward`, dense or sparse: their parameters begin with path(index). `rotary` must
  /// outlive the block.
  TransformerBlock(std::int64_t index, std::int64_t hidden, double norm_eps, const RotaryTable& rotary,
                   std::unique_ptr<SequenceMixer> attention, std::unique_ptr<FeedForward> feed_forward);

  /// "blocks/<index>", where the names of the block's units and parameters begin.
  static std::string path(std::int64_t index);

  const std::vector<UnitSpec>& units() const override { return units_; }
  Tensor forward(const LayerContext&, const BlockViews& weights, const MicroBatch&, Tensor hidden,
                 std::unique_ptr<BlockState>& state) const override;
  Tensor backward_input(const LayerContext&, const BlockViews& weights, const MicroBatch&, BlockState& state,
                        Tensor output_gradient) const override;
  void backward_weight(const LayerContext&, const MicroBatch&, BlockState& state,
                       const BlockViews& gradients) const override;

 private:
  struct State;
  /// The block's views by layer.
  struct Parts {
    View attention_norm, feed_forward_norm;
    std::span<const View> attention;
    FeedForwardViews feed_forward;
  };

  Parts parts_of(const BlockViews& views) const;
  void attend(const LayerContext&, const Parts&, const MicroBatch&, State& state) const;
  void forget(Recompute recompute, State& state) const;
  void restore(const LayerContext&, const Parts&, const MicroBatch&, State& state) const;

  RmsNorm norm_;
  std::unique_ptr<SequenceMixer> attention_;
  std::unique_ptr<FeedForward> feed_forward_;
  const RotaryTable& rotary_;
  std::vector<UnitSpec> units_;
};

}  // namespace moesaic
