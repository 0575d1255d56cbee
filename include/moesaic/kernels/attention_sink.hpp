#pragma once
/// Learned attention sinks (GPT-OSS, OpenAI 2025; Xiao et al. 2023, arXiv 2309.17453): a further logit a head in the
/// denominator of the softmax, whose value is zero. Applied to finished attention, so whatever merges partial results
/// over blocks of keys needs not know of it.

#include "moesaic/kernels/context.hpp"

namespace moesaic {

/// In place: log_sum_exp' = log(exp(log_sum_exp) + exp(sinks[head])), out *= exp(log_sum_exp - log_sum_exp').
/// sinks: [heads], storage type; out: [batch, queries, heads, value_width], may be strided in all but the last dimension;
/// log_sum_exp: [batch, heads, queries], accumulator type. attention_backward with both as left here is right as it is.
using AttentionSink = void(const OperatorContext&, ConstView sinks, View out, View log_sum_exp);

/// sinks_gradient [heads] (accumulator type) += -sum over batch and queries, in fixed order, of
/// exp(sinks[head] - log_sum_exp') <out_gradient, out>; out and log_sum_exp as attention_sink left them.
using AttentionSinkBackward = void(const OperatorContext&, ConstView sinks, ConstView out, ConstView log_sum_exp,
                                   ConstView out_gradient, View sinks_gradient);

namespace reference {
AttentionSink attention_sink;
AttentionSinkBackward attention_sink_backward;
}  // namespace reference

namespace cuda {
AttentionSink attention_sink;
AttentionSinkBackward attention_sink_backward;
}  // namespace cuda

}  // namespace moesaic
