#pragma once
/// A pre-norm transformer block: attention, then a dense or a mixture-of-experts feed-forward, each around a residual.

#include <memory>

#include "moesaic/layers/attention.hpp"
#include "moesaic/layers/block.hpp"
#include "moesaic/layers/moe.hpp"

namespace moesaic {

/// middle = x + attention(norm(x)), y = middle + feed_forward(norm(middle)).
/// Unit "blocks/<i>" with the norm, the attention's parameters, the second norm and the feed-forward's; a sparse block
/// has a second unit, "blocks/<i>/experts". What LayerContext::recompute says is not kept by forward but computed again at
/// the beginning of backward_input (Chen et al. 2016, arXiv 1604.06174), from where it stays until backward_weight.
class TransformerBlock : public ModelBlock {
 public:
  /// Dense. `rotary` and `sequences` must outlive the block.
  TransformerBlock(std::int64_t index, const AttentionSpec& attention, std::int64_t dense_width, double norm_eps,
                   const RotaryTable& rotary, SequenceExchange& sequences);
  /// Sparse. `rotary`, `sequences`, `experts` and `statistics` (may be null) must outlive the block.
  TransformerBlock(std::int64_t index, const AttentionSpec& attention, const MoeSpec& moe, double norm_eps,
                   const RotaryTable& rotary, SequenceExchange& sequences, ExpertExchange& experts,
                   StatisticsExchange* statistics, const MoeAccounts& accounts);

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

  TransformerBlock(std::int64_t index, const AttentionSpec& attention, double norm_eps, const RotaryTable& rotary,
                   SequenceExchange& sequences, std::unique_ptr<FeedForward> feed_forward);
  Parts parts_of(const BlockViews& views) const;
  void attend(const LayerContext&, const Parts&, const MicroBatch&, State& state) const;
  void forget(Recompute recompute, State& state) const;
  void restore(const LayerContext&, const Parts&, const MicroBatch&, State& state) const;

  RmsNorm norm_;
  Attention attention_;
  std::unique_ptr<FeedForward> feed_forward_;
  const RotaryTable& rotary_;
  std::vector<UnitSpec> units_;
};

}  // namespace moesaic
