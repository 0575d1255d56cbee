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
  gradients_ = arena.tensor(type_, {layout_.slice()}, Label::gradients);
}

void ShardedUnit::set_values(const std::function<void(float*)>& write) {
  MOESAIC_EXPECT(!tied_ && type_ == DType::f32);
  if (values_.view().device() == DeviceKind::cpu) return write(values_.view().data<float>());
  std::vector<float> host(static_cast<std::size_t>(layout_.slice()));
  write(host.data());
  upload(context_.on.stream, host_view(std::as_const(host).data(), {layout_.slice()}), values_);
}

void ShardedUnit::values_changed() {
  if (!keeps_copy()) return;
  if (gathered_.absent()) gathered_ = context_.on.arena->tensor(context_.type, {layout_.whole()}, Label::gathered);
  context_.ops->copy(context_.on, values(), gathered_);
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
  if (keeps_copy()) return layout_.views(gathered_);
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
  if (!sharded()) return layout_.views(gradients_);
  if (whole_gradient_.absent()) {
    whole_gradient_ = context_.on.arena->tensor(type_, {layout_.whole()}, Label::unreduced_gradients);
    context_.ops->fill(context_.on, 0, whole_gradient_);
  }
  return layout_.views(whole_gradient_);
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
  if (replicas_->size() > 1) replicas_->all_reduce(gradients_);
}

void ShardedUnit::add_gradients_to_tied() { context_.ops->accumulate(context_.on, gradients_, tied_->gradients_); }

void ShardedUnit::zero_gradients() { context_.ops->fill(context_.on, 0, gradients_); }

}  // namespace moesaic
