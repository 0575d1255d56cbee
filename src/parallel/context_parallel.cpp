#include "moesaic/parallel/context_parallel.hpp"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "key_value.hpp"
#include "moesaic/parallel/halo_exchange.hpp"

namespace moesaic {
namespace {

/// The queries of this rank and what is computed of them.
struct Queries {
  const AttentionMask& mask;
  double scale;
  ConstView q;
};

/// Whether some of the queries may see some of the keys, documents aside.
bool may_see(const AttentionMask& mask, Block queries, Block keys) {
  const bool outside = mask.window > 0 && queries.begin - (keys.end - 1) >= mask.window;
  return !outside && (!mask.causal || keys.begin < queries.end);
}

/// body(query block of `rank`, key block of `source`) for the pairs of blocks that may see each other, in order.
template <class Body>
void for_pairs(const Communicator& ranks, const AttentionMask& mask, std::int64_t length, int source,
               const Body& body) {
  for (const OwnBlock& query : blocks_of(length, ranks, ranks.rank()))
    for (const OwnBlock& keys : blocks_of(length, ranks, source))
      if (may_see(mask, query.whole, keys.whole)) body(query, keys);
}

/// Attention of a block of queries, merged into out and log_sum_exp (of all this rank's tokens).
void attend(const LayerContext& ctx, const Queries& queries, const OwnBlock& query, Block keys, ConstView k,
            ConstView v, View out, View log_sum_exp) {
  const ConstView q = part(queries.q, query.own);
  const Tensor partial = ctx.workspace({q.extent(0), q.extent(1), q.extent(2), v.extent(3)});
  const Tensor partial_sum = ctx.workspace(ctx.accumulator(), {q.extent(0), q.extent(2), q.extent(1)});
  ctx.ops->attention_forward(ctx.on, mask_between(queries.mask, query, keys), queries.scale, q, k, v, partial,
                             partial_sum);
  ctx.ops->attention_merge(ctx.on, partial, partial_sum, part(out, query.own),
                           log_sum_exp.slice(2, query.own.begin, query.own.end));
}

/// What backward reads of the queries beside them.
struct QueryResults {
  ConstView out, log_sum_exp, out_gradient;
};

/// Adds a block of queries' gradients: to q_gradient (of all this rank's tokens), k_gradient and v_gradient (of the keys).
void attend_backward(const LayerContext& ctx, const Queries& queries, const QueryResults& results,
                     const OwnBlock& query, Block keys, ConstView k, ConstView v, View q_gradient, View k_gradient,
                     View v_gradient) {
  const ConstView q = part(queries.q, query.own);
  const ConstView strided = results.log_sum_exp.slice(2, query.own.begin, query.own.end);
  const Tensor log_sum_exp = ctx.workspace(ctx.accumulator(), strided.extents());
  ctx.ops->copy(ctx.on, strided, log_sum_exp);
  const Tensor q_part = ctx.workspace(q.extents()), k_part = ctx.workspace(k.extents()),
               v_part = ctx.workspace(v.extents());
  ctx.ops->attention_backward(ctx.on, mask_between(queries.mask, query, keys), queries.scale, q, k, v,
                              part(results.out, query.own), log_sum_exp, part(results.out_gradient, query.own), q_part,
                              k_part, v_part);
  ctx.ops->accumulate(ctx.on, q_part, part(q_gradient, query.own));
  ctx.ops->accumulate(ctx.on, k_part, k_gradient);
  ctx.ops->accumulate(ctx.on, v_part, v_gradient);
}

/// Messages to the next rank of the ring and from the one before, under way together.
class RingTransfer {
 public:
  explicit RingTransfer(Communicator& ranks) : ranks_(&ranks) { ranks_->start_group(); }

  void shift(ConstView to_next, View from_previous) {
    const int size = ranks_->size(), rank = ranks_->rank();
    pending_.push_back(ranks_->initiate_send(to_next, (rank + 1) % size));
    pending_.push_back(ranks_->initiate_receive(from_previous, (rank + size - 1) % size));
  }
  void start() { ranks_->end_group(); }
  void complete() {
    for (Pending& pending : pending_) pending.complete();
  }

 private:
  Communicator* ranks_;
  std::vector<Pending> pending_;
};

/// Whose keys and values are here at a step of the ring.
int source_at(const Communicator& ranks, int step) { return (ranks.rank() - step + ranks.size()) % ranks.size(); }

/// Keys and values of all ranks.
struct Gathered {
  Tensor buffer;  ///< one rank's after another's
  std::vector<KeyValue> of_rank;
};

Gathered gathered_views(Tensor buffer, int ranks, const Extents& key, const Extents& value) {
  Gathered all{.buffer = std::move(buffer), .of_rank = {}};
  const std::int64_t size = key.size() + value.size();
  for (int r = 0; r < ranks; ++r)
    all.of_rank.push_back(key_value_of(all.buffer.view().rows(r * size, (r + 1) * size), key, value));
  return all;
}

/// Keys and values of whole sequences, in their order.
KeyValue gather_sequences(const LayerContext& ctx, Communicator& ranks, ConstView k, ConstView v) {
  const KeyValue mine = packed(ctx, k, v);
  Tensor buffer = ctx.on.arena->tensor(k.dtype(), {ranks.size() * mine.buffer.view().size()}, Label::exchange);
  const Gathered all = gathered_views(std::move(buffer), ranks.size(), k.extents(), v.extents());
  ranks.all_gather(mine.buffer, all.buffer);
  const std::int64_t length = k.extent(1) * ranks.size();
  KeyValue whole = make_key_value(ctx, k.dtype(), with_length(k.extents(), length), with_length(v.extents(), length));
  for (int r = 0; r < ranks.size(); ++r) {
    for (const OwnBlock& block : blocks_of(k.extent(1), ranks, r)) {
      const KeyValue& from = all.of_rank[static_cast<std::size_t>(r)];
      ctx.ops->copy(ctx.on, part(from.key, block.own), part(whole.key, block.whole));
      ctx.ops->copy(ctx.on, part(from.value, block.own), part(whole.value, block.whole));
    }
  }
  return whole;
}

/// The sums over ranks of gradients of whole sequences, for this rank's tokens.
void scatter_gradients(const LayerContext& ctx, Communicator& ranks, const KeyValue& whole, View k_gradient,
                       View v_gradient) {
  const KeyValue mine = make_key_value(ctx, ctx.accumulator(), k_gradient.extents(), v_gradient.extents());
  Tensor buffer = ctx.on.arena->tensor(ctx.accumulator(), {whole.buffer.view().size()}, Label::exchange);
  const Gathered all = gathered_views(std::move(buffer), ranks.size(), k_gradient.extents(), v_gradient.extents());
  for (int r = 0; r < ranks.size(); ++r) {
    for (const OwnBlock& block : blocks_of(k_gradient.extent(1), ranks, r)) {
      const KeyValue& to = all.of_rank[static_cast<std::size_t>(r)];
      ctx.ops->copy(ctx.on, part(whole.key, block.whole), part(to.key, block.own));
      ctx.ops->copy(ctx.on, part(whole.value, block.whole), part(to.value, block.own));
    }
  }
  ranks.reduce_scatter(all.buffer, mine.buffer);
  ctx.ops->copy(ctx.on, mine.key, k_gradient);
  ctx.ops->copy(ctx.on, mine.value, v_gradient);
}

/// The keys that a block of queries may see.
Block visible_keys(const AttentionMask& mask, const OwnBlock& query, std::int64_t length) {
  const std::int64_t begin = mask.window == 0 ? 0 : std::max<std::int64_t>(0, query.whole.begin - mask.window + 1);
  return {begin, mask.causal ? query.whole.end : length};
}

/// Sums of partial results of all this rank's queries, none yet.
Tensor nothing_attended(const LayerContext& ctx, const View& out, View log_sum_exp) {
  ctx.ops->fill(ctx.on, -std::numeric_limits<double>::infinity(), log_sum_exp);
  return ctx.workspace(ctx.accumulator(), out.extents());
}

Tensor zero_sums(const LayerContext& ctx, const Extents& extents) {
  Tensor sums = ctx.workspace(ctx.accumulator(), extents);
  ctx.ops->fill(ctx.on, 0, sums);
  return sums;
}

}  // namespace

void RingExchange::attention_forward(const LayerContext& ctx, const AttentionMask& mask, double scale, ConstView q,
                                     ConstView k, ConstView v, View out, View log_sum_exp) {
  const Queries queries{mask, scale, q};
  const Tensor merged = nothing_attended(ctx, out, log_sum_exp);
  KeyValue here = packed(ctx, k, v);
  for (int step = 0; step < ranks_->size(); ++step) {
    KeyValue next;
    RingTransfer transfer(*ranks_);
    if (step + 1 < ranks_->size()) {
      next = make_key_value(ctx, k.dtype(), k.extents(), v.extents());
      transfer.shift(here.buffer, next.buffer);
    }
    transfer.start();
    for_pairs(*ranks_, mask, k.extent(1), source_at(*ranks_, step), [&](const OwnBlock& query, const OwnBlock& keys) {
      attend(ctx, queries, query, keys.whole, part(here.key, keys.own), part(here.value, keys.own), merged,
             log_sum_exp);
    });
    transfer.complete();
    here = std::move(next);
  }
  ctx.ops->copy(ctx.on, merged, out);
}

void RingExchange::attention_backward(const LayerContext& ctx, const AttentionMask& mask, double scale, ConstView q,
                                      ConstView k, ConstView v, ConstView out, ConstView log_sum_exp,
                                      ConstView out_gradient, View q_gradient, View k_gradient, View v_gradient) {
  const Queries queries{mask, scale, q};
  const QueryResults results{out, log_sum_exp, out_gradient};
  const Tensor q_sums = zero_sums(ctx, q.extents());
  const int last = ranks_->size() - 1;
  KeyValue here = packed(ctx, k, v), own, leaving;  // own: of this rank's keys; leaving: of those that were here before
  for (int step = 0; step <= last; ++step) {
    KeyValue next, arriving, gradients = zero_gradients(ctx, k.extents(), v.extents());
    RingTransfer transfer(*ranks_);
    if (step < last) {
      next = make_key_value(ctx, k.dtype(), k.extents(), v.extents());
      transfer.shift(here.buffer, next.buffer);
    }
    if (step > 1) {
      arriving = make_key_value(ctx, ctx.accumulator(), k.extents(), v.extents());
      transfer.shift(leaving.buffer, arriving.buffer);
    }
    transfer.start();
    for_pairs(*ranks_, mask, k.extent(1), source_at(*ranks_, step), [&](const OwnBlock& query, const OwnBlock& keys) {
      attend_backward(ctx, queries, results, query, keys.whole, part(here.key, keys.own), part(here.value, keys.own),
                      q_sums, part(gradients.key, keys.own), part(gradients.value, keys.own));
    });
    transfer.complete();
    if (step > 1) ctx.ops->accumulate(ctx.on, arriving.buffer, gradients.buffer);
    (step == 0 ? own : leaving) = std::move(gradients);
    here = std::move(next);
  }
  if (last > 0) {  // what leaves last belongs to the next rank, and this rank's come from the one before
    const KeyValue arriving = make_key_value(ctx, ctx.accumulator(), k.extents(), v.extents());
    RingTransfer transfer(*ranks_);
    transfer.shift(leaving.buffer, arriving.buffer);
    transfer.start();
    ctx.ops->copy(ctx.on, q_sums, q_gradient);
    transfer.complete();
    ctx.ops->accumulate(ctx.on, arriving.buffer, own.buffer);
  }
  ctx.ops->copy(ctx.on, own.key, k_gradient);
  ctx.ops->copy(ctx.on, own.value, v_gradient);
}

void GatherExchange::attention_forward(const LayerContext& ctx, const AttentionMask& mask, double scale, ConstView q,
                                       ConstView k, ConstView v, View out, View log_sum_exp) {
  const Queries queries{mask, scale, q};
  const Tensor merged = nothing_attended(ctx, out, log_sum_exp);
  const KeyValue whole = gather_sequences(ctx, *ranks_, k, v);
  for (const OwnBlock& query : blocks_of(k.extent(1), *ranks_, ranks_->rank())) {
    const Block keys = visible_keys(mask, query, whole.key.extent(1));
    attend(ctx, queries, query, keys, part(whole.key, keys), part(whole.value, keys), merged, log_sum_exp);
  }
  ctx.ops->copy(ctx.on, merged, out);
}

void GatherExchange::attention_backward(const LayerContext& ctx, const AttentionMask& mask, double scale, ConstView q,
                                        ConstView k, ConstView v, ConstView out, ConstView log_sum_exp,
                                        ConstView out_gradient, View q_gradient, View k_gradient, View v_gradient) {
  const Queries queries{mask, scale, q};
  const QueryResults results{out, log_sum_exp, out_gradient};
  const Tensor q_sums = zero_sums(ctx, q.extents());
  const KeyValue whole = gather_sequences(ctx, *ranks_, k, v);
  const KeyValue gradients = zero_gradients(ctx, whole.key.extents(), whole.value.extents());
  for (const OwnBlock& query : blocks_of(k.extent(1), *ranks_, ranks_->rank())) {
    const Block keys = visible_keys(mask, query, whole.key.extent(1));
    attend_backward(ctx, queries, results, query, keys, part(whole.key, keys), part(whole.value, keys), q_sums,
                    part(gradients.key, keys), part(gradients.value, keys));
  }
  ctx.ops->copy(ctx.on, q_sums, q_gradient);
  scatter_gradients(ctx, *ranks_, gradients, k_gradient, v_gradient);
}

std::unique_ptr<SequenceExchange> make_sequence_exchange(Communicator& context_ranks, ContextExchange kind) {
  if (context_ranks.size() == 1) return std::make_unique<LocalSequences>();
  std::unique_ptr<SequenceExchange> whole;
  if (kind == ContextExchange::gather)
    whole = std::make_unique<GatherExchange>(context_ranks);
  else
    whole = std::make_unique<RingExchange>(context_ranks);
  return std::make_unique<HaloExchange>(context_ranks, std::move(whole));
}

}  // namespace moesaic
