#pragma once
/// Operators that compute nothing: a step with them takes memory and exchanges messages as a real one does, in no time.

#include "moesaic/kernels/operators.hpp"

namespace moesaic {

/// Scratch that the deterministic backward of attention takes on a GPU where it can. What needs more runs over parts of the
/// batch, then over groups of heads.
inline constexpr std::int64_t attention_workspace_bound = std::int64_t{4} << 30;

/// Bytes of that scratch for queries [batch, length, heads, width] and keys [batch, length, key_heads, width]: two a pair of
/// query and key, both lengths padded to 64, of as many sequences at once as the bound allows, or else of as many key
/// heads (with their queries), one at least.
std::int64_t attention_workspace_bytes(const Extents& queries, const Extents& keys);

/// Every operator, doing nothing. Those for `device` = cuda take the scratch of attention's backward; the reference ones
/// take none to speak of.
const Operators& silent_operators(DeviceKind device);

}  // namespace moesaic
