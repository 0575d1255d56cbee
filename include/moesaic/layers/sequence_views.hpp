#pragma once
/// Tokens as attention sees them: by sequence, under the mask of a micro-batch.

#include "moesaic/kernels/attention.hpp"
#include "moesaic/layers/micro_batch.hpp"

namespace moesaic {

/// [tokens, heads, width] as [sequences, length, heads, width].
template <class Void> BasicView<Void> by_sequence(const BasicView<Void>& heads, const MicroBatch& batch) {
  return heads.split_first(batch.sequences, batch.length);
}

/// Causal within each document and, if it is not 0, the window.
inline AttentionMask mask_of(const MicroBatch& batch, std::int64_t window = 0) {
  const bool cut = batch.parts > 1;
  return {.causal = true,
          .window = window,
          .query_documents = batch.documents,
          .key_documents = cut ? batch.key_documents : batch.documents};
}

}  // namespace moesaic
