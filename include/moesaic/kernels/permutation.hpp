#pragma once
/// Moving token rows into expert (or destination) order and summing them back in a fixed order.
/// A slot is one row in sorted order; -1 marks "no slot" and "no key" everywhere.

#include "moesaic/kernels/context.hpp"

namespace moesaic {

/// Stable counting sort of the entries of keys (i32 [tokens, k], each in [0, num_keys) or -1) by (key, token, column):
/// offsets (i64 [num_keys + 1]): slots [offsets[e], offsets[e+1]) hold key e;
/// slot_token (i32 [>= tokens * k]): the token of each slot; entries past offsets[num_keys] are left alone;
/// token_slot (i32 [tokens, k]): the slot of each entry, -1 where the key is.
/// Example: keys = ((1,0),(0,-1)): offsets = (0,2,3), slot_token = (0,1,0), token_slot = ((2,0),(1,-1)).
using SortByKey = void(const OperatorContext&, ConstView keys, View offsets, View slot_token, View token_slot);

/// out [slots, width] = in[slot_token[slot]], in [tokens, width]; as many slots as out has rows.
using GatherRows = void(const OperatorContext&, ConstView in, ConstView slot_token, View out);

/// out [tokens, width] = sum over columns j = 0..k-1, in this order, of weights[t,j] * in[token_slot[t,j]], -1 skipped.
/// weights: accumulator type [tokens, k], absent: 1. in: [slots, width].
using CombineRows = void(const OperatorContext&, ConstView in, ConstView token_slot, ConstView weights, View out);

/// in_gradient [slots, width]: row token_slot[t,j] = weights[t,j] * out_gradient[t];
/// weights_gradient [tokens, k] = <out_gradient[t], in[token_slot[t,j]]>, 0 where -1. in_gradient may be in.
/// Absent weights count as 1; weights_gradient may be absent, and then in too.
using CombineRowsBackward = void(const OperatorContext&, ConstView in, ConstView token_slot, ConstView weights,
                                 ConstView out_gradient, View in_gradient, View weights_gradient);

namespace reference {
SortByKey sort_by_key;
GatherRows gather_rows;
CombineRows combine_rows;
CombineRowsBackward combine_rows_backward;
}  // namespace reference

namespace cuda {
SortByKey sort_by_key;
GatherRows gather_rows;
CombineRows combine_rows;
CombineRowsBackward combine_rows_backward;
}  // namespace cuda

}  // namespace moesaic
