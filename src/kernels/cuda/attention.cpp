#include "attention_variants.hpp"
#include "moesaic/kernels/attention_workspace.hpp"

namespace moesaic::cuda {

void attention_forward(const OperatorContext& context, const AttentionMask& mask, double scale, ConstView q,
                       ConstView k, ConstView v, View out, View log_sum_exp) {
  if (cudnn_attention_forward(context, mask, scale, q, k, v, out, log_sum_exp)) return;
  if (flash_attention_forward(context, mask, scale, q, k, v, out, log_sum_exp)) return;
  plain_attention_forward(context, mask, scale, q, k, v, out, log_sum_exp);
}

void attention_backward(const OperatorContext& context, const AttentionMask& mask, double scale, ConstView q,
                        ConstView k, ConstView v, ConstView out, ConstView log_sum_exp, ConstView out_gradient,
                        View q_gradient, View k_gradient, View v_gradient) {
  const auto run = [&](auto& kernels) {
    return kernels(context, mask, scale, q, k, v, out, log_sum_exp, out_gradient, q_gradient, k_gradient, v_gradient);
  };
  const bool flash_first = prefer_flash_backward(attention_sizes(mask, q, k, v), context.deterministic);
  if (flash_first && run(flash_attention_backward)) return;
  if (run(cudnn_attention_backward)) return;
  if (!flash_first && run(flash_attention_backward)) return;
  run(plain_attention_backward);
}

}  // namespace moesaic::cuda
