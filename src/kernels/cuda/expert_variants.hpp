#pragma once
/// The kernels behind cuda::expert_up and cuda::expert_down_backward where experts_fuse says so.

#include "moesaic/kernels/expert_scratch.hpp"

namespace moesaic::cuda {

ExpertUp hopper_expert_up;

/// weights_gradient is left in scratch.products: parts of <h, a>, without the bias's term. slot_weights is set.
void hopper_expert_down_backward(const OperatorContext&, const SwigluOptions&, const SlotRouting&,
                                 ConstView output_gradient, ConstView down, const ExpertScratch& scratch, View gate_up,
                                 View activated);

}  // namespace moesaic::cuda
