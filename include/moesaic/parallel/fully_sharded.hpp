#pragma once
/// Fully sharded data parallelism over the blocks of a model: which units are whole when. The only place that decides
/// what is gathered and reduced early.

#include <memory>

#include "moesaic/comm/communicators.hpp"
#include "moesaic/layers/block.hpp"
#include "moesaic/parallel/sharded_unit.hpp"

namespace moesaic {

class FullySharded {
 public:
  /// `blocks`: this rank's, in order; they, `grid` and the communicators must outlive this.
  FullySharded(const std::vector<std::unique_ptr<ModelBlock>>& blocks, const LayerContext& context,
               const ProcessGrid& grid, int rank, const Communicators& communicators);

  /// All units in order, for the optimizer and the checkpoint.
  const std::vector<std::unique_ptr<ShardedUnit>>& units() const { return units_; }

  /// The weights of block `block`, after the gather of `next` (-1: none) was started, so that it runs while
  /// `block` computes.
  BlockViews gather(int block, int next);
  void release(int block);

  /// Where block `block` adds its weight gradients, after a reduction of it that is still under way was completed.
  BlockViews gradients(int block);
  /// What LayerContext::gradients_begin and dense_gradients_begin are to be for what gradients(block) gave last.
  bool gradients_begin(int block) const { return begins(block, true); }
  bool dense_gradients_begin(int block) const { return begins(block, false); }
  /// Starts to reduce the gradients of `block` and completes the reduction that was started before it.
  void reduce(int block);
  /// Completes the reduction still under way.
  void complete_reductions();

  /// The first stage owns a table that the last one shares (a tied head): both keep its values and moments, and both add
  /// the other's gradients. `stages`: this rank's pipeline; must outlive this.
  void tie_across(Communicator& stages);

  /// Sums over replicas, then adds a tied head's gradients to its embedding's. After the last micro-batch of a step.
  void finish_gradients();
  void zero_gradients();

  /// Bytes of the largest block's gathered weights.
  std::int64_t largest_gathered_bytes() const;

 private:
  bool begins(int block, bool expert) const;
  void exchange_tied_gradients();

  std::vector<std::unique_ptr<ShardedUnit>> units_;
  std::vector<std::vector<ShardedUnit*>> of_block_;
  int reducing_ = -1;
  Communicator* tied_stages_ = nullptr;
  ShardedUnit* tied_unit_ = nullptr;  ///< on the first and on the last stage of a tied model
  LayerContext context_;
};

}  // namespace moesaic
