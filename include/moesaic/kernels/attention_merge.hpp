#pragma once
/// Attention over blocks of keys, put together (Dao et al. 2022; Liu et al. 2023, ring attention).

#include "moesaic/kernels/context.hpp"

namespace moesaic {

/// Adds the attention of the same queries over further keys to what is there: with l = log_sum_exp, m = more_log_sum_exp
/// and L = log(exp(l) + exp(m)) for each query and head,
///   out = exp(l - L) * out + exp(m - L) * more,  log_sum_exp = L.
/// Where l = -inf (no key seen yet) out is not read; where both are, out is 0.
/// more: [batch, queries, heads, width], storage type; out: the same shape, accumulator type; more_log_sum_exp and
/// log_sum_exp: [batch, heads, queries], accumulator type. All may be strided in all but the last dimension.
using AttentionMerge = void(const OperatorContext&, ConstView more, ConstView more_log_sum_exp, View out,
                            View log_sum_exp);

namespace reference {
AttentionMerge attention_merge;
}  // namespace reference

namespace cuda {
AttentionMerge attention_merge;
}  // namespace cuda

}  // namespace moesaic
