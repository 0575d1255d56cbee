#include "moesaic/parallel/halo_exchange.hpp"

#include <array>
#include <utility>
#include <vector>

#include "key_value.hpp"

namespace moesaic {
namespace {

constexpr int nobody = -1;

/// One of the two blocks of a rank, early or late, and the ranks that own the blocks before and after it.
struct HaloBlock {
  OwnBlock block;
  int before, after;
};

/// Of the 2C blocks of a sequence, block i and the i-th from the end belong to one rank.
std::array<HaloBlock, 2> halo_blocks_of(std::int64_t own_length, const Communicator& ranks) {
  const int rank = ranks.rank(), last = ranks.size() - 1;
  const auto [early, late] = blocks_of(own_length, ranks, rank);
  return {{{early, rank == 0 ? nobody : rank - 1, rank == last ? last : rank + 1},
           {late, rank == last ? last : rank + 1, rank == 0 ? nobody : rank - 1}}};
}

/// Messages of keys and values, or of their gradients, under way together.
class Messages {
 public:
  explicit Messages(Communicator& ranks) : ranks_(&ranks) { ranks_->start_group(); }

  void send(const KeyValue& values, int to) { pending_.push_back(ranks_->initiate_send(values.buffer, to)); }
  void receive(const KeyValue& values, int from) { pending_.push_back(ranks_->initiate_receive(values.buffer, from)); }
  void exchange() {
    ranks_->end_group();
    for (Pending& pending : pending_) pending.complete();
  }

 private:
  Communicator* ranks_;
  std::vector<Pending> pending_;
};

/// What attention between a window's neighbours is about.
struct Window {
  const LayerContext& ctx;
  Communicator& ranks;
  const AttentionMask& mask;
  double scale;
  ConstView q, k, v;
  std::array<HaloBlock, 2> blocks = halo_blocks_of(k.extent(1), ranks);

  /// Keys of the block before that a block sees.
  std::int64_t reach() const { return mask.window - 1; }
  bool has_halo(const HaloBlock& block) const { return block.before != nobody && reach() > 0; }
  Block tail_of(const OwnBlock& block) const { return {block.own.end - reach(), block.own.end}; }
  /// The keys that a block of queries sees, among those of the sequence.
  Block keys_of(const HaloBlock& block) const {
    return {block.block.whole.begin - (has_halo(block) ? reach() : 0), block.block.whole.end};
  }
  KeyValue halo_buffer(DType type) const {
    return make_key_value(ctx, type, with_length(k.extents(), reach()), with_length(v.extents(), reach()));
  }
};

/// For each block the last keys and values of the one before; nothing where there is none.
std::array<KeyValue, 2> fetch_halos(const Window& window) {
  std::array<KeyValue, 2> halos, tails;
  Messages messages(window.ranks);
  for (std::size_t b = 0; b < 2; ++b) {
    const HaloBlock& block = window.blocks[b];
    const bool reaches = window.reach() > 0;
    const Block tail = window.tail_of(window.blocks[b].block);
    if (reaches && block.after != nobody) tails[b] = packed(window.ctx, part(window.k, tail), part(window.v, tail));
    if (reaches && block.after != nobody && block.after != window.ranks.rank()) messages.send(tails[b], block.after);
    if (!window.has_halo(block) || block.before == window.ranks.rank()) continue;
    halos[b] = window.halo_buffer(window.k.dtype());
    messages.receive(halos[b], block.before);
  }
  messages.exchange();
  if (window.has_halo(window.blocks[1]) && window.blocks[1].before == window.ranks.rank())
    halos[1] = std::move(tails[0]);  // the two blocks in the middle of the sequence belong to one rank
  return halos;
}

/// A halo and its block, one behind the other.
KeyValue joined(const Window& window, const HaloBlock& block, const KeyValue& halo) {
  const std::int64_t length = window.keys_of(block).size(), before = length - block.block.own.size();
  KeyValue all = make_key_value(window.ctx, window.k.dtype(), with_length(window.k.extents(), length),
                                with_length(window.v.extents(), length));
  if (before > 0) {
    window.ctx.ops->copy(window.ctx.on, halo.key, part(all.key, {0, before}));
    window.ctx.ops->copy(window.ctx.on, halo.value, part(all.value, {0, before}));
  }
  window.ctx.ops->copy(window.ctx.on, part(window.k, block.block.own), part(all.key, {before, length}));
  window.ctx.ops->copy(window.ctx.on, part(window.v, block.block.own), part(all.value, {before, length}));
  return all;
}

void attend(const Window& window, const HaloBlock& block, const KeyValue& keys, View out, View log_sum_exp) {
  const Block own = block.block.own;
  const View strided = log_sum_exp.slice(2, own.begin, own.end);
  const Tensor sums = window.ctx.workspace(window.ctx.accumulator(), strided.extents());
  window.ctx.ops->attention_forward(window.ctx.on, mask_between(window.mask, block.block, window.keys_of(block)),
                                    window.scale, part(window.q, own), keys.key, keys.value, part(out, own), sums);
  window.ctx.ops->copy(window.ctx.on, sums, strided);
}

/// What backward reads beside the operands, and the gradient of this rank's queries that it sets.
struct Backward {
  ConstView out, log_sum_exp, out_gradient;
  View q_gradient;
};

/// The gradients of the keys and values that the block sees.
KeyValue attend_backward(const Window& window, const HaloBlock& block, const KeyValue& keys, const Backward& views) {
  const Block own = block.block.own;
  const ConstView strided = views.log_sum_exp.slice(2, own.begin, own.end);
  const Tensor sums = window.ctx.workspace(window.ctx.accumulator(), strided.extents());
  window.ctx.ops->copy(window.ctx.on, strided, sums);
  KeyValue gradients = make_key_value(window.ctx, window.k.dtype(), keys.key.extents(), keys.value.extents());
  window.ctx.ops->attention_backward(window.ctx.on, mask_between(window.mask, block.block, window.keys_of(block)),
                                     window.scale, part(window.q, own), keys.key, keys.value, part(views.out, own),
                                     sums, part(views.out_gradient, own), part(views.q_gradient, own), gradients.key,
                                     gradients.value);
  return gradients;
}

/// sums (tokens `to` of it) += gradients (tokens `from` of it).
void add(const LayerContext& ctx, const KeyValue& gradients, Block from, const KeyValue& sums, Block to) {
  ctx.ops->accumulate(ctx.on, part(gradients.key, from), part(sums.key, to));
  ctx.ops->accumulate(ctx.on, part(gradients.value, from), part(sums.value, to));
}

/// Halos' gradients go back to the ranks that own those keys, which add them to `sums`, of all their own keys.
void return_halos(const Window& window, std::array<KeyValue, 2>& halos, const KeyValue& sums) {
  std::array<KeyValue, 2> arriving;
  Messages messages(window.ranks);
  for (std::size_t b = 0; b < 2 && window.reach() > 0; ++b) {
    const HaloBlock& block = window.blocks[b];
    if (block.before != nobody && block.before != window.ranks.rank()) messages.send(halos[b], block.before);
    if (block.after == nobody || block.after == window.ranks.rank()) continue;
    arriving[b] = window.halo_buffer(window.ctx.accumulator());
    messages.receive(arriving[b], block.after);
  }
  messages.exchange();
  if (window.has_halo(window.blocks[1]) && window.blocks[1].before == window.ranks.rank())
    arriving[0] = std::move(halos[1]);
  for (std::size_t b = 0; b < 2; ++b)
    if (!arriving[b].buffer.absent())
      add(window.ctx, arriving[b], {0, window.reach()}, sums, window.tail_of(window.blocks[b].block));
}

/// Whether every block sees at most the one before it and itself.
bool reaches_one_block(const AttentionMask& mask, std::int64_t own_length) {
  return mask.causal && mask.window > 0 && mask.window - 1 <= own_length / 2;
}

}  // namespace

void HaloExchange::attention_forward(const LayerContext& ctx, const AttentionMask& mask, double scale, ConstView q,
                                     ConstView k, ConstView v, View out, View log_sum_exp) {
  if (!reaches_one_block(mask, k.extent(1))) {
    whole_->attention_forward(ctx, mask, scale, q, k, v, out, log_sum_exp);
    return;
  }
  const Window window{ctx, *ranks_, mask, scale, q, k, v};
  const std::array<KeyValue, 2> halos = fetch_halos(window);
  for (std::size_t b = 0; b < 2; ++b)
    attend(window, window.blocks[b], joined(window, window.blocks[b], halos[b]), out, log_sum_exp);
}

void HaloExchange::attention_backward(const LayerContext& ctx, const AttentionMask& mask, double scale, ConstView q,
                                      ConstView k, ConstView v, ConstView out, ConstView log_sum_exp,
                                      ConstView out_gradient, View q_gradient, View k_gradient, View v_gradient) {
  if (!reaches_one_block(mask, k.extent(1))) {
    whole_->attention_backward(ctx, mask, scale, q, k, v, out, log_sum_exp, out_gradient, q_gradient, k_gradient,
                               v_gradient);
    return;
  }
  const Window window{ctx, *ranks_, mask, scale, q, k, v};
  const std::array<KeyValue, 2> halos = fetch_halos(window);
  std::array<KeyValue, 2> halo_gradients;
  const KeyValue sums = zero_gradients(ctx, k.extents(), v.extents());
  for (std::size_t b = 0; b < 2; ++b) {
    const HaloBlock& block = window.blocks[b];
    const KeyValue keys = joined(window, block, halos[b]);
    const KeyValue gradients = attend_backward(window, block, keys, {out, log_sum_exp, out_gradient, q_gradient});
    const std::int64_t length = keys.key.extent(1), before = length - block.block.own.size();
    add(ctx, gradients, {before, length}, sums, block.block.own);
    if (before == 0) continue;
    halo_gradients[b] = zero_gradients(ctx, with_length(k.extents(), before), with_length(v.extents(), before));
    add(ctx, gradients, {0, before}, halo_gradients[b], {0, before});
  }
  return_halos(window, halo_gradients, sums);
  ctx.ops->copy(ctx.on, sums.key, k_gradient);
  ctx.ops->copy(ctx.on, sums.value, v_gradient);
}

}  // namespace moesaic
