#pragma once
/// Which kernels attention runs on a GPU and how much scratch memory they take, known before there is one.

#include "moesaic/kernels/attention.hpp"

#include <cstdint>

namespace moesaic {

/// Extents of one attention, as in attention.hpp.
struct AttentionSizes {
  std::int64_t batch, queries, keys, heads, key_heads, width, value_width;
  std::int64_t window = 0;
  bool documents = false;
};

inline AttentionSizes attention_sizes(const AttentionMask& mask, const ConstView& q, const ConstView& k,
                                      const ConstView& v) {
  return {q.extent(0), q.extent(1), k.extent(1),
          q.extent(2), k.extent(2), q.extent(3),
          v.extent(3), mask.window, !mask.query_documents.absent()};
}

/// Whether the backward runs kernels of our own (flash attention, deterministic, on visible pairs alone) where cuDNN has
/// some too: in windows, where ours are faster. cuDNN's deterministic ones visit all earlier keys whatever the window.
bool prefer_flash_backward(const AttentionSizes& sizes, bool deterministic);

/// What one run of the deterministic backward takes: so many sequences, so many key heads with their query heads.
struct AttentionPart {
  std::int64_t sequences, key_heads;
};

/// cuDNN's deterministic backward keeps a [queries, keys] matrix of bf16 a query head. So that these stay within 4 GiB it
/// runs over equal parts of the batch, then of the key heads; one key head of one sequence is the least.
AttentionPart deterministic_attention_part(const AttentionSizes& sizes);

/// Bytes of Label::workspace that cuda::attention_backward takes for bf16 (its forward takes a few KiB).
std::int64_t attention_backward_workspace(const AttentionSizes& sizes, bool deterministic);

}  // namespace moesaic
