#pragma once
/// The first half of a transformer block: what lets the tokens of a sequence see each other (some kind of attention).

#include <memory>
#include <span>
#include <vector>

#include "moesaic/layers/context.hpp"
#include "moesaic/layers/micro_batch.hpp"
#include "moesaic/layers/parameter.hpp"
#include "moesaic/layers/rotary_table.hpp"

namespace moesaic {

class SequenceMixerState {
 public:
  virtual ~SequenceMixerState() = default;
};

class SequenceMixer {
 public:
  virtual ~SequenceMixer() = default;

  /// All belong to the block's own unit.
  virtual const std::vector<ParameterSpec>& parameters() const = 0;

  /// weights: views of parameters(), in order. x: [tokens, hidden], must stay alive until backward_weight. Returns
  /// [tokens, hidden] and sets `state`.
  virtual Tensor forward(const LayerContext&, std::span<const View> weights, const MicroBatch&, const RotaryTable&,
                         ConstView x, std::unique_ptr<SequenceMixerState>& state) const = 0;

  /// The gradient of x, [tokens, hidden]. output_gradient is free again when this returns.
  virtual Tensor backward_input(const LayerContext&, std::span<const View> weights, const MicroBatch&,
                                const RotaryTable&, ConstView output_gradient, SequenceMixerState& state) const = 0;

  /// Adds to `gradients` (accumulator type) and frees what `state` holds.
  virtual void backward_weight(const LayerContext&, SequenceMixerState& state,
                               std::span<const View> gradients) const = 0;
};

}  // namespace moesaic
