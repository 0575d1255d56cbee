#pragma once
/// The kernels behind cuda's operators of experts.hpp where expert_scratch.hpp says that they are fused.

#include "moesaic/kernels/expert_scratch.hpp"

namespace moesaic::cuda {

ExpertUp hopper_expert_up;
ExpertWeightGradient hopper_expert_weight_gradient;

/// weights_gradient is left in scratch.products: parts of <h, a>, without the bias's term. slot_weights is set.
void hopper_expert_down_backward(const OperatorContext&, const SwigluOptions&, const SlotRouting&,
                                 ConstView output_gradient, ConstView down, const ExpertScratch& scratch, View gate_up,
                                 View activated);

}  // namespace moesaic::cuda
