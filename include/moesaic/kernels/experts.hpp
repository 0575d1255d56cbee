#pragma once
/// What of experts' feed-forwards lies between tokens and the down projection: rows are gathered while they are
/// multiplied, and the gated unit and its derivative are taken of the products before they leave the chip (as in
/// SonicMoE, arXiv 2512.14080). Where a device has no such kernel for given arguments, the operators of gemm.hpp,
/// permutation.hpp, bias.hpp and swiglu.hpp run one after the other (kernels/expert_scratch.hpp).
///
/// Slots s of expert e are rows [offsets[e], offsets[e+1]); sort_by_key (permutation.hpp) sets offsets, slot_token and
/// token_slot.

#include "moesaic/kernels/swiglu.hpp"

namespace moesaic {

/// gate_up [slots, 2 * width]:  gate_up[s] = in[slot_token[s]] weights[e]^T + bias[e];
/// activated [slots, width]:    activated[s] = swiglu(gate_up[s]); may be absent.
/// in [tokens, hidden]; weights [experts, 2 * width, hidden], of each the rows of gate, then of up; bias
/// [experts, 2 * width], absent: 0.
using ExpertUp = void(const OperatorContext&, const SwigluOptions&, ConstView in, ConstView slot_token,
                      ConstView weights, ConstView bias, ConstView offsets, View gate_up, View activated);

/// Where the slots of a micro-batch lie and how much each counts.
struct SlotRouting {
  ConstView offsets;     ///< i64 [experts + 1]
  ConstView slot_token;  ///< i32 [slots]
  ConstView token_slot;  ///< i32 [tokens, top_k], -1: none
  ConstView weights;     ///< accumulator type [tokens, top_k]
};

/// The backward of y[t] = sum over j of weights[t,j] * (swiglu(gate_up[s]) down[e]^T + bias[e]), s = token_slot[t,j], which
/// needs no product of the forward but gate_up. With d = output_gradient[t], a = swiglu(gate_up[s]), h = d down[e]:
/// weights_gradient [tokens, top_k]:  <h, a> + <d, bias[e]>, 0 where there is no slot;
/// activated [slots, width]:          weights[t,j] * a, so that down's gradient is the sum of d (x) activated[s];
/// gate_up [slots, 2 * width]:        becomes its gradient, swiglu'(gate_up[s]) applied to weights[t,j] * h.
/// output_gradient [tokens, hidden]; down [experts, hidden, width]; bias [experts, hidden], absent: 0.
using ExpertDownBackward = void(const OperatorContext&, const SwigluOptions&, const SlotRouting&,
                                ConstView output_gradient, ConstView down, ConstView bias, View gate_up, View activated,
                                View weights_gradient);

/// Which operand of a weight gradient has a row a token; the other has one a slot.
enum class TokenSide : std::uint8_t { output_gradient, in };

/// As GroupedGemmWeightGradient (gemm.hpp) with the rows of tokens found by slot_token i32 [slots]:
/// gradient [experts, n, k] = sum over slots s of the expert of output_gradient[s] (x) in[s] + beta * gradient, where
/// s stands for slot_token[s] in the operand of `side`. beta: 0 or 1.
using ExpertWeightGradient = void(const OperatorContext&, TokenSide side, ConstView output_gradient, ConstView in,
                                  ConstView slot_token, ConstView offsets, double beta, View gradient);

namespace reference {
ExpertUp expert_up;
ExpertDownBackward expert_down_backward;
ExpertWeightGradient expert_weight_gradient;
}  // namespace reference

namespace cuda {
ExpertUp expert_up;
ExpertDownBackward expert_down_backward;
ExpertWeightGradient expert_weight_gradient;
/// The same with one operator after the other, whatever the arguments.
ExpertUp plain_expert_up;
ExpertDownBackward plain_expert_down_backward;
ExpertWeightGradient plain_expert_weight_gradient;
}  // namespace cuda

}  // namespace moesaic
