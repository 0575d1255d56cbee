#pragma once
/// experts.hpp's operators as a sequence of others: what defines them, and what serves the arguments that no fused kernel
/// takes.

#include "moesaic/kernels/bias.hpp"
#include "moesaic/kernels/expert_scratch.hpp"
#include "moesaic/kernels/gemm.hpp"
#include "moesaic/kernels/permutation.hpp"

namespace moesaic {

/// For every slot s = routing.token_slot[t,j] of expert e: weights_gradient[t,j] = <gradient[s], activated[s]> +
/// <output_gradient[t], bias[e]> (0 without a slot), then both rows are multiplied with routing.weights[t,j].
using WeighSlots = void(const OperatorContext&, const SlotRouting&, ConstView output_gradient, ConstView bias,
                        View gradient, View activated, View weights_gradient);

/// One device's operators of the sequence.
struct ExpertSteps {
  GatherRows* gather_rows;
  GroupedGemm* grouped_gemm;
  GroupedGemmWeightGradient* grouped_gemm_weight_gradient;
  AddBias* add_bias;
  SwigluForward* swiglu_forward;
  SwigluBackward* swiglu_backward;
  WeighSlots* weigh_slots;
};

inline void composed_expert_up(const ExpertSteps& steps, const OperatorContext& context, const SwigluOptions& swiglu,
                               ConstView in, ConstView slot_token, ConstView weights, ConstView bias, ConstView offsets,
                               const Tensor& gathered, View gate_up, View activated) {
  steps.gather_rows(context, in, slot_token, gathered);
  steps.grouped_gemm(context, Transpose::yes, gathered, weights, offsets, gate_up);
  if (!bias.absent()) steps.add_bias(context, bias, offsets, gate_up);
  if (!activated.absent()) steps.swiglu_forward(context, swiglu, gate_up, activated);
}

inline void composed_expert_down_backward(const ExpertSteps& steps, const OperatorContext& context,
                                          const SwigluOptions& swiglu, const SlotRouting& routing,
                                          ConstView output_gradient, ConstView down, ConstView bias,
                                          const ExpertScratch& scratch, View gate_up, View activated,
                                          View weights_gradient) {
  steps.gather_rows(context, output_gradient, routing.slot_token, scratch.gathered);
  steps.grouped_gemm(context, Transpose::no, scratch.gathered, down, routing.offsets, scratch.gradient);
  steps.swiglu_forward(context, swiglu, gate_up, activated);
  steps.weigh_slots(context, routing, output_gradient, bias, scratch.gradient, activated, weights_gradient);
  steps.swiglu_backward(context, swiglu, gate_up, scratch.gradient, gate_up);
}

inline void composed_expert_weight_gradient(const ExpertSteps& steps, const OperatorContext& context, TokenSide side,
                                            ConstView output_gradient, ConstView in, ConstView slot_token,
                                            ConstView offsets, double beta, View gradient) {
  const bool of_in = side == TokenSide::in;
  const ConstView tokens = of_in ? in : output_gradient, slots = of_in ? output_gradient : in;
  const ExpertScratch scratch = expert_weight_gradient_scratch(context, false, tokens, slots);
  steps.gather_rows(context, tokens, slot_token, scratch.gathered);
  steps.grouped_gemm_weight_gradient(context, of_in ? slots : scratch.gathered, of_in ? scratch.gathered : slots,
                                     offsets, beta, gradient);
}

}  // namespace moesaic
