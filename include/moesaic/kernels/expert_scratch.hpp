#pragma once
/// How experts.hpp's operators are carried out, and what scratch memory that takes: known before there is a device.

#include "moesaic/kernels/experts.hpp"

namespace moesaic {

/// True when a device has fused kernels for experts of these weights, gate_up [experts, 2 * width, hidden] or
/// down [experts, hidden, width]: on Hopper for bf16 whose widths are multiples of 64 and whose rows of tokens and weights
/// start at multiples of 16 bytes, and for as many experts as a table in shared memory has room for.
inline constexpr std::int64_t most_fused_experts = 512;
bool experts_fuse(DeviceKind device, ConstView tokens, ConstView weights);

/// The same for the gradient of such weights, gradient [experts, n, k] in f32, where output_gradient has tokens' rows: the
/// kernel that gathers `in` is slower than a copy.
bool expert_gradient_fuses(DeviceKind device, TokenSide side, ConstView output_gradient, ConstView in,
                           ConstView gradient);

/// The fused backward's columns of a tile, each of which leaves a part of the routing weights' gradient.
inline constexpr std::int64_t expert_backward_columns = 192;

/// Label::workspace of one operator, given back with it.
struct ExpertScratch {
  Tensor gathered;      ///< [slots, hidden]: rows of tokens; only where the steps run one after the other
  Tensor gradient;      ///< [slots, width], of the activation; the same
  Tensor slot_weights;  ///< f32 [slots]; only where they are fused
  Tensor products;      ///< f32 [slots, tiles of columns]: parts of <h, a>; the same
};
ExpertScratch expert_up_scratch(const OperatorContext&, bool fused, ConstView in, View gate_up);
ExpertScratch expert_down_backward_scratch(const OperatorContext&, bool fused, ConstView output_gradient, View gate_up);
/// `slots`: the operand that is not gathered.
ExpertScratch expert_weight_gradient_scratch(const OperatorContext&, bool fused, ConstView tokens, ConstView slots);

}  // namespace moesaic
