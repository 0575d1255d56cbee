#include "moesaic/layers/sequence_exchange.hpp"

namespace moesaic {

void LocalSequences::attention_forward(const LayerContext& ctx, const AttentionMask& mask, double scale, ConstView q,
                                       ConstView k, ConstView v, View out, View log_sum_exp) {
  ctx.ops->attention_forward(ctx.on, mask, scale, q, k, v, out, log_sum_exp);
}

void LocalSequences::attention_backward(const LayerContext& ctx, const AttentionMask& mask, double scale, ConstView q,
                                        ConstView k, ConstView v, ConstView out, ConstView log_sum_exp,
                                        ConstView out_gradient, View q_gradient, View k_gradient, View v_gradient) {
  ctx.ops->attention_backward(ctx.on, mask, scale, q, k, v, out, log_sum_exp, out_gradient, q_gradient, k_gradient,
                              v_gradient);
}

}  // namespace moesaic
