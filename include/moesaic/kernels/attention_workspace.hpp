#pragma once
/// How much scratch memory attention through cuDNN takes on a GPU, known before there is one.

#include <cstdint>

namespace moesaic {

/// Extents of one attention, as in attention.hpp.
struct AttentionSizes {
  std::int64_t batch, queries, keys, heads, key_heads, width, value_width;
};

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
