#include "attention_variants.hpp"

namespace moesaic::cuda {

void attention_forward(const OperatorContext& context, const AttentionMask& mask, double scale, ConstView q,
                       ConstView k, ConstView v, View out, View log_sum_exp) {
  if (cudnn_attention_forward(context, mask, scale, q, k, v, out, log_sum_exp)) return;
  plain_attention_forward(context, mask, scale, q, k, v, out, log_sum_exp);
}

void attention_backward(const OperatorContext& context, const AttentionMask& mask, double scale, ConstView q,
                        ConstView k, ConstView v, ConstView out, ConstView log_sum_exp, ConstView out_gradient,
                        View q_gradient, View k_gradient, View v_gradient) {
  if (cudnn_attention_backward(context, mask, scale, q, k, v, out, log_sum_exp, out_gradient, q_gradient, k_gradient,
                               v_gradient))
    return;
  plain_attention_backward(context, mask, scale, q, k, v, out, log_sum_exp, out_gradient, q_gradient, k_gradient,
                           v_gradient);
}

}  // namespace moesaic::cuda
