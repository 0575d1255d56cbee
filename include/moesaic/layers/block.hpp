#pragma once
/// A block of the model: embedding, transformer block, or head. The unit of pipeline stages, of gathering and of recompute.

#include <memory>
#include <vector>

#include "moesaic/layers/context.hpp"
#include "moesaic/layers/micro_batch.hpp"
#include "moesaic/layers/parameter.hpp"

namespace moesaic {

/// What a forward leaves for its backward; one a block and micro-batch.
class BlockState {
 public:
  virtual ~BlockState() = default;
};

/// Views of the block's units, in the order of ModelBlock::units().
using BlockViews = std::vector<ParameterViews>;

/// Blocks own no parameters and no activations: they are handed both. Gradients are exact and in two halves, so that
/// schedules may delay the second.
class ModelBlock {
 public:
  virtual ~ModelBlock() = default;

  virtual const std::vector<UnitSpec>& units() const = 0;

  /// False where backward never looks at the weights (the embedding): they are not gathered for it.
  virtual bool backward_reads_weights() const { return true; }

  /// hidden: [tokens, hidden] (absent for the embedding). Returns the block's output [tokens, hidden] (absent for the
  /// head) and sets `state`.
  virtual Tensor forward(const LayerContext&, const BlockViews& weights, const MicroBatch&, Tensor hidden,
                         std::unique_ptr<BlockState>& state) const = 0;

  /// Gradient with respect to the block's input from that of its output (absent for the head, whose own loss starts it);
  /// absent from the embedding. Keeps in `state` what the weight gradients need, frees the rest.
  virtual Tensor backward_input(const LayerContext&, const BlockViews& weights, const MicroBatch&, BlockState& state,
                                Tensor output_gradient) const = 0;

  /// Adds the weight gradients to `gradients` (accumulator type) and frees what `state` still holds.
  virtual void backward_weight(const LayerContext&, const MicroBatch&, BlockState& state,
                               const BlockViews& gradients) const = 0;
};

}  // namespace moesaic
