#pragma once
/// The kernels behind cuda::attention_forward and cuda::attention_backward (attention.hpp says what they compute).

#include "moesaic/kernels/attention.hpp"

namespace moesaic::cuda {

/// Any shape and mask, f32 and bf16, deterministic. Right, not fast.
AttentionForward plain_attention_forward;
AttentionBackward plain_attention_backward;

/// Kernels of our own on the tensor cores (Dao 2023, arXiv 2307.08691), deterministic: any mask; bf16 and keys and values
/// of widths 64 and 64, 128 and 128, 192 and 128. They return false, with nothing done, for all else. The work is that of
/// the visible pairs, whatever the lengths; scratch memory is a float a query and head.
bool flash_attention_forward(const OperatorContext& context, const AttentionMask& mask, double scale, ConstView q,
                             ConstView k, ConstView v, View out, View log_sum_exp);
bool flash_attention_backward(const OperatorContext& context, const AttentionMask& mask, double scale, ConstView q,
                              ConstView k, ConstView v, ConstView out, ConstView log_sum_exp, ConstView out_gradient,
                              View q_gradient, View k_gradient, View v_gradient);

/// Through cuDNN: they return false, with nothing done, where cuDNN has no plan for what is asked.
bool cudnn_attention_forward(const OperatorContext& context, const AttentionMask& mask, double scale, ConstView q,
                             ConstView k, ConstView v, View out, View log_sum_exp);
bool cudnn_attention_backward(const OperatorContext& context, const AttentionMask& mask, double scale, ConstView q,
                              ConstView k, ConstView v, ConstView out, ConstView log_sum_exp, ConstView out_gradient,
                              View q_gradient, View k_gradient, View v_gradient);

}  // namespace moesaic::cuda
