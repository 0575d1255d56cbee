#pragma once
/// Token embedding.

#include "moesaic/kernels/context.hpp"

namespace moesaic {

/// y [tokens, hidden] = table[ids[t]], table [vocabulary, hidden], ids i32 [tokens] within the vocabulary (checked when data is read).
using EmbeddingForward = void(const OperatorContext&, ConstView table, ConstView ids, View y);

/// table_gradient [vocabulary, hidden] (accumulator type) += output_gradient rows, tokens in order.
using EmbeddingBackward = void(const OperatorContext&, ConstView ids, ConstView output_gradient, View table_gradient);

namespace reference {
EmbeddingForward embedding_forward;
EmbeddingBackward embedding_backward;
}  // namespace reference

namespace cuda {
EmbeddingForward embedding_forward;
EmbeddingBackward embedding_backward;
}  // namespace cuda

}  // namespace moesaic
