#pragma once
/// Blocks of sequences that are cut over ranks, and buffers of their keys and values.

#include <array>
#include <utility>

#include "moesaic/comm/communicator.hpp"
#include "moesaic/grid/block.hpp"
#include "moesaic/layers/sequence_exchange.hpp"

namespace moesaic {

/// One of the two blocks of a rank: where it lies in the sequence, and where among the rank's own tokens.
struct OwnBlock {
  Block whole, own;
};

inline std::array<OwnBlock, 2> blocks_of(std::int64_t own_length, const Communicator& ranks, int rank) {
  const BlockPair pair = mirrored_blocks_of(own_length * ranks.size(), ranks.size(), rank);
  return {{{pair.early, {0, pair.early.size()}}, {pair.late, {pair.early.size(), own_length}}}};
}

/// The block's part of a tensor [sequences, length, ...] of its rank's tokens.
inline View part(const View& tokens, Block block) { return tokens.slice(1, block.begin, block.end); }
inline ConstView part(const ConstView& tokens, Block block) { return tokens.slice(1, block.begin, block.end); }

/// Keys and values of a rank, or their gradients, in one buffer: one message.
struct KeyValue {
  Tensor buffer;
  View key, value;  ///< [sequences, length, heads, width]
};

/// The two views of a flat buffer.
inline KeyValue key_value_of(View flat, const Extents& key, const Extents& value) {
  return {.buffer = {},
          .key = flat.rows(0, key.size()).reshape(key),
          .value = flat.rows(key.size(), flat.size()).reshape(value)};
}

inline KeyValue make_key_value(const LayerContext& ctx, DType type, const Extents& key, const Extents& value) {
  Tensor buffer = ctx.on.arena->tensor(type, {key.size() + value.size()}, Label::exchange);
  KeyValue result = key_value_of(buffer, key, value);
  result.buffer = std::move(buffer);
  return result;
}

inline KeyValue packed(const LayerContext& ctx, ConstView k, ConstView v) {
  KeyValue result = make_key_value(ctx, k.dtype(), k.extents(), v.extents());
  ctx.ops->copy(ctx.on, k, result.key);
  ctx.ops->copy(ctx.on, v, result.value);
  return result;
}

/// Sums of gradients, zero at first.
inline KeyValue zero_gradients(const LayerContext& ctx, const Extents& key, const Extents& value) {
  KeyValue result = make_key_value(ctx, ctx.accumulator(), key, value);
  ctx.ops->fill(ctx.on, 0, result.buffer);
  return result;
}

inline Extents with_length(Extents extents, std::int64_t length) {
  extents[1] = length;
  return extents;
}

/// The mask between two blocks of one sequence.
inline AttentionMask mask_between(const AttentionMask& whole, const OwnBlock& query, Block keys) {
  AttentionMask mask = whole;
  mask.offset = query.whole.begin - keys.begin;
  if (whole.query_documents.absent()) return mask;
  mask.query_documents = part(whole.query_documents, query.own);
  mask.key_documents = part(whole.key_documents, keys);
  return mask;
}

}  // namespace moesaic
