#pragma once
/// Keys of multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): a part of each head's own, and a part that all
/// heads share.

#include "moesaic/kernels/context.hpp"

namespace moesaic {

/// keys [tokens, heads, a + b]: of each head its own part, then the shared one; own [tokens, heads, a], shared [tokens, b].
/// All may be strided in all but the last dimension.
using JoinKeys = void(const OperatorContext&, ConstView own, ConstView shared, View keys);

/// The gradient of the same: own_gradient = the first a elements of each head's keys_gradient, shared_gradient = the sum of
/// the last b over the heads, in order.
using JoinKeysBackward = void(const OperatorContext&, ConstView keys_gradient, View own_gradient, View shared_gradient);

namespace reference {
JoinKeys join_keys;
JoinKeysBackward join_keys_backward;
}  // namespace reference

namespace cuda {
JoinKeys join_keys;
JoinKeysBackward join_keys_backward;
}  // namespace cuda

}  // namespace moesaic
