#pragma once
/// Scaled dot-product attention with grouped queries (Vaswani et al. 2017; Ainslie et al. 2023), by blocks of keys with a
/// running maximum (Dao et al. 2022), so no [queries, keys] matrix is stored.

#include <cstdint>
#include <optional>

#include "moesaic/kernels/context.hpp"

namespace moesaic {

/// Which keys a query sees. Causal: key position <= query position, where query i has position `offset` + i of the keys;
/// left out, both end together (keys - queries). Window (0: none): query position - key position < window. Documents
/// (i32 [batch, length], absent: one document): equal values only.
struct AttentionMask {
  bool causal = true;
  std::optional<std::int64_t> offset = std::nullopt;
  std::int64_t window = 0;
  ConstView query_documents = {};
  ConstView key_documents = {};
};

/// out[b,s,a] = sum_j softmax_j(scale * <q[b,s,a], k[b,j,g]>) v[b,j,g] over the visible keys j, g = a / (heads / key heads).
/// q: [batch, queries, heads, width]; k: [batch, keys, key_heads, width]; v: [batch, keys, key_heads, value_width]; out:
/// [batch, queries, heads, value_width]; all may be strided in all but the last dimension.
/// log_sum_exp: [batch, heads, queries], accumulator type, contiguous: log of the sum of exponentials, -inf (and out 0)
/// where no key is visible. With it, partial results over blocks of keys can be merged.
using AttentionForward = void(const OperatorContext&, const AttentionMask&, double scale, ConstView q, ConstView k,
                              ConstView v, View out, View log_sum_exp);

/// Gradients of the same with respect to q, k and v (overwritten; same shapes as q, k, v, may be strided).
using AttentionBackward = void(const OperatorContext&, const AttentionMask&, double scale, ConstView q, ConstView k,
                               ConstView v, ConstView out, ConstView log_sum_exp, ConstView out_gradient,
                               View q_gradient, View k_gradient, View v_gradient);

namespace reference {
AttentionForward attention_forward;
AttentionBackward attention_backward;
}  // namespace reference

namespace cuda {
AttentionForward attention_forward;
AttentionBackward attention_backward;
}  // namespace cuda

}  // namespace moesaic
