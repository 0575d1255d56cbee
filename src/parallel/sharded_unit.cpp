#include "moesaic/parallel/sharded_unit.hpp"

#include <utility>

#include "moesaic/tensor/transfer.hpp"

namespace moesaic {

ShardedUnit::ShardedUnit(UnitLayout layout, DType type, const LayerContext& context, Communicator& shards,
                         Communicator& replicas, ShardedUnit* tied)
    : layout_(std::move(layout)), type_(type), context_(context), shards_(&shards), replicas_(&replicas), tied_(tied),
      pieces_(layout_.pieces(shards.rank())) {
  MOESAIC_EXPECT(shards.size() == layout_.placement().shards);
  MOESAIC_EXPECT(tied == nullptr || tied->layout().slice() == layout_.slice());
  Arena& arena = *context_.on.arena;
  if (!tied_) values_ = arena.tensor(type_, {layout_.slice()}, Label::parameters);
  if (!tied_ && keeps_copy()) copy_ = arena.tensor(context_.type, {layout_.whole()}, Label::gathered);
  gradients_ = arena.tensor(type_, {layout_.slice()}, Label::gradients);
}

void ShardedUnit::set_values(const std::function<void(float*)>& write) {
  MOESAIC_EXPECT(!tied_ && type_ == DType::f32);
  values_changed();
  if (values_.view().device() == DeviceKind::cpu) return write(values_.view().data<float>());
  std::vector<float> host(static_cast<std::size_t>(layout_.slice()));
  write(host.data());
  upload(context_.on.stream, host_view(std::as_const(host).data(), {layout_.slice()}), values_);
}

View ShardedUnit::current_copy() {
  if (tied_) return tied_->current_copy();
  if (!copy_holds_) context_.ops->copy(context_.on, values_, copy_);
  copy_holds_ = true;
  return copy_;
}

void ShardedUnit::initiate_gather() {
  if (!sharded() || !gathered_.absent()) return;
  gathered_ = context_.on.arena->tensor(context_.type, {layout_.whole()}, Label::gathered);
  gathering_ = shards_->initiate_all_gather(own_part(), gathered_);
}

/// This rank's slice as it travels: converted, it lies where the whole will have it.
ConstView ShardedUnit::own_part() {
  if (context_.type == type_) return values();
  const std::int64_t begin = shards_->rank() * layout_.slice();
  const View place = gathered_.view().rows(begin, begin + layout_.slice());
  context_.ops->copy(context_.on, values(), place);
  return place;
}

ParameterViews ShardedUnit::complete_gather() {
  if (keeps_copy()) return layout_.views(current_copy());
  if (!sharded()) return layout_.views(values());
  initiate_gather();
  gathering_.complete();
  return layout_.views(gathered_);
}

void ShardedUnit::release() {
  if (!sharded()) return;
  gathering_.complete();
  gathered_.reset();
}

ParameterViews ShardedUnit::gradient_views() {
  gradients_begin_ = sharded() ? whole_gradient_.absent() : std::exchange(gradients_zeroed_, false);
  if (sharded() && gradients_begin_)
    whole_gradient_ = context_.on.arena->tensor(type_, {layout_.whole()}, Label::unreduced_gradients);
  ParameterViews views = layout_.views(sharded() ? whole_gradient_ : gradients_);
  if (gradients_begin_) begin(views);
  return views;
}

void ShardedUnit::begin(const ParameterViews& gradients) {
  for (std::size_t i = 0; i < gradients.size(); ++i)
    if (!spec().parameters[i].product) context_.ops->fill(context_.on, 0, gradients[i]);
}

void ShardedUnit::initiate_reduce() {
  if (!sharded() || reducing_.under_way()) return;
  reduced_ = context_.on.arena->tensor(type_, {layout_.slice()}, Label::exchange);
  reducing_ = shards_->initiate_reduce_scatter(whole_gradient_, reduced_);
}

void ShardedUnit::complete_reduce() {
  if (!reducing_.under_way()) return;
  reducing_.complete();
  context_.ops->accumulate(context_.on, reduced_, gradients_);
  reduced_.reset();
  whole_gradient_.reset();
}

void ShardedUnit::reduce_replicas() {
  if (std::exchange(gradients_zeroed_, false)) context_.ops->fill(context_.on, 0, gradients_);  // nobody added
  if (replicas_->size() > 1) replicas_->all_reduce(gradients_);
}

void ShardedUnit::add_gradients_to_tied() { context_.ops->accumulate(context_.on, gradients_, tied_->gradients_); }

// Without shards layers add to the slice itself: that is zeroed when they begin.
void ShardedUnit::zero_gradients() {
  gradients_zeroed_ = !sharded();
  if (sharded()) context_.ops->fill(context_.on, 0, gradients_);
}

}  // namespace moesaic
