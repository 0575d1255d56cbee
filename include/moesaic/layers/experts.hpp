#pragma once
/// The experts of one rank: SwiGLU feed-forwards over rows in expert order.

#include <array>

#include "moesaic/layers/context.hpp"
#include "moesaic/layers/expert_exchange.hpp"

namespace moesaic {

/// Views of the experts' weights, or of their gradients.
struct ExpertViews {
  View gate_up;            ///< [experts, 2 * width, hidden], of each the rows of gate, then of up
  View down;               ///< [experts, hidden, width]
  View gate_up_bias = {};  ///< [experts, 2 * width]; absent: none
  View down_bias = {};     ///< [experts, hidden]; absent: none
};

/// Slots are rows in expert order. Of a micro-batch's products backward reads gate_up alone; rows of slots are gathered
/// where they are needed rather than kept.
struct ExpertState {
  Tensor offsets;          ///< i64 [experts + 1]
  Tensor slot_token;       ///< i32 [rows * top_k]
  Tensor token_slot;       ///< i32 [rows, top_k]
  Tensor gate_up;          ///< [slots, 2 * width]; after the input gradient: its gradient
  Tensor activated;        ///< [slots, width], set by the input gradient: times the slot's routing weight
  Tensor output_gradient;  ///< [rows, hidden], set by the input gradient

  static constexpr std::size_t tensors = 6;
  /// Each of them: what must move with the state.
  std::array<Tensor*, tensors> all() {
    return {&offsets, &slot_token, &token_slot, &gate_up, &activated, &output_gradient};
  }
};

/// Gradients of what experts were given.
struct ExpertGradients {
  Tensor rows;     ///< [rows, hidden]
  Tensor weights;  ///< accumulator type [rows, top_k]
};

/// [rows, hidden]: of each row the sum over its experts here of weight * expert(row), in the order of its slots.
Tensor experts_forward(const LayerContext&, const ExpertViews& weights, const ExpertInput& input, ExpertState& state,
                       const SwigluOptions& = {});

/// experts_forward without the sum: sets `state` alone.
void experts_recompute(const LayerContext&, const ExpertViews& weights, const ExpertInput& input, ExpertState& state,
                       const SwigluOptions& = {});

/// output_gradient: [rows, hidden].
ExpertGradients experts_backward_input(const LayerContext&, const ExpertViews& weights, const ExpertInput& input,
                                       ConstView output_gradient, ExpertState& state, const SwigluOptions& = {});

/// Adds to `gradients` (accumulator type) and leaves `state` empty.
void experts_backward_weight(const LayerContext&, const ExpertInput& input, ExpertState& state,
                             const ExpertViews& gradients);

}  // namespace moesaic
