#pragma once
/// One unit of parameters under fully sharded data parallelism (Rajbhandari et al. 2020, arXiv 1910.02054; Zhao et al.
/// 2023, arXiv 2304.11277): every rank keeps a slice; the whole exists only around its use.

#include <functional>

#include "moesaic/comm/communicator.hpp"
#include "moesaic/layers/context.hpp"
#include "moesaic/parallel/unit_layout.hpp"

namespace moesaic {

/// Gather before use, release after; the whole gradient is accumulated, then reduced into the slice. With one shard
/// there is nothing to gather or to reduce: the whole is the slice itself.
/// Slices are masters, of the accumulator type; what layers read has the context's type, and converted slices are what
/// travels. One shard of another type than its layers read keeps a converted copy (a tied unit's is the other's).
class ShardedUnit {
 public:
  /// `shards` and `replicas` must outlive the unit. The slices of values and gradients are allocated, not filled.
  /// `tied`: the unit whose values this one shares, or null; layouts must agree.
  ShardedUnit(UnitLayout layout, DType type, const LayerContext& context, Communicator& shards, Communicator& replicas,
              ShardedUnit* tied);

  const LayerContext& context() const { return context_; }
  const UnitLayout& layout() const { return layout_; }
  const UnitSpec& spec() const { return layout_.spec(); }
  /// The pieces of this rank's slice.
  const std::vector<SlicePiece>& pieces() const { return pieces_; }
  ShardedUnit* tied() const { return tied_; }
  Communicator& replicas() const { return *replicas_; }

  /// This rank's slice of the values, flat [layout().slice()]; a tied unit's are those of the unit it shares.
  View values() const { return tied_ ? tied_->values() : values_.view(); }
  /// This rank's slice of the summed gradients, flat.
  View gradients() const { return gradients_; }

  /// `write` fills this rank's slice [layout().slice()], in host memory. Not of a tied unit; masters of f32.
  void set_values(const std::function<void(float*)>& write);
  /// The converted copy that is kept, flat like the values; absent where none is.
  View copy() const { return tied_ ? tied_->copy() : copy_.view(); }
  /// The values were written, the copy was not: the next gather renews it. So it is at first.
  void values_changed() { copy_holds_ = false; }
  /// The copy was written together with the values.
  void copy_written() { copy_holds_ = true; }

  /// Starts to collect the whole; no effect when it is here or on its way.
  void initiate_gather();
  /// The whole, as views of the parameters.
  ParameterViews complete_gather();
  /// Frees the gathered copy.
  void release();

  /// Views of the whole gradient to add to. What is first asked for after zero_gradients() or a reduction is zero, but
  /// for products (ParameterSpec::product), which may be anything.
  ParameterViews gradient_views();
  /// Whether what gradient_views() gave last was asked for first.
  bool gradients_begin() const { return gradients_begin_; }
  /// Starts to sum the whole gradient over the shards into this rank's slice.
  void initiate_reduce();
  /// Adds the sum to the slice and frees the whole gradient.
  void complete_reduce();

  /// Sums the slice over the replicas; once a step, after the last reduction.
  void reduce_replicas();
  /// Adds this unit's gradients to those of the unit that it shares values with.
  void add_gradients_to_tied();
  void zero_gradients();

 private:
  bool sharded() const { return layout_.placement().shards > 1; }
  bool keeps_copy() const { return !sharded() && context_.type != type_; }
  View current_copy();
  /// Zeroes what is added to: all but the products.
  void begin(const ParameterViews& gradients);
  ConstView own_part();

  UnitLayout layout_;
  DType type_;
  LayerContext context_;
  Communicator* shards_;
  Communicator* replicas_;
  ShardedUnit* tied_;
  std::vector<SlicePiece> pieces_;
  Tensor values_, copy_, gradients_;
  bool copy_holds_ = false, gradients_zeroed_ = false, gradients_begin_ = false;
  Tensor gathered_, whole_gradient_, reduced_;
  Pending gathering_, reducing_;
};

}  // namespace moesaic
