#include "moesaic/parallel/fully_sharded.hpp"

#include <algorithm>

namespace moesaic {
namespace {

UnitPlacement placement_of(const UnitSpec& unit, const ProcessGrid& grid, int rank) {
  if (unit.expert)
    return {grid.extent(Axis::expert), grid.coordinate(rank, Axis::expert), grid.extent(Axis::expert_shard)};
  return {1, 0, grid.extent(Axis::shard) * grid.extent(Axis::context)};
}

ShardedUnit* find_unit(const std::vector<std::unique_ptr<ShardedUnit>>& units, const std::string& name) {
  for (const auto& unit : units)
    if (unit->spec().name == name) return unit.get();
  return nullptr;
}

}  // namespace

FullySharded::FullySharded(const std::vector<std::unique_ptr<ModelBlock>>& blocks, const LayerContext& context,
                           const ProcessGrid& grid, int rank, const Communicators& communicators)
    : context_(context) {
  for (const auto& block : blocks) {
    auto& mine = of_block_.emplace_back();
    for (const UnitSpec& unit : block->units()) {
      Communicator& shards = unit.expert ? *communicators.expert_shard : *communicators.dense_shard;
      Communicator& replicas = unit.expert ? *communicators.expert_replicate : *communicators.dense_replicate;
      units_.push_back(std::make_unique<ShardedUnit>(UnitLayout(unit, placement_of(unit, grid, rank)),
                                                     context.accumulator(), context, shards, replicas,
                                                     find_unit(units_, unit.tied_to)));
      mine.push_back(units_.back().get());
    }
  }
}

BlockViews FullySharded::gather(int block, int next) {
  for (ShardedUnit* unit : of_block_[static_cast<std::size_t>(block)]) unit->initiate_gather();
  if (next >= 0)
    for (ShardedUnit* unit : of_block_[static_cast<std::size_t>(next)]) unit->initiate_gather();
  BlockViews views;
  for (ShardedUnit* unit : of_block_[static_cast<std::size_t>(block)]) views.push_back(unit->complete_gather());
  return views;
}

void FullySharded::release(int block) {
  for (ShardedUnit* unit : of_block_[static_cast<std::size_t>(block)]) unit->release();
}

// Nothing may be added to a gradient that is on its way: a stage of one block asks for it again at once.
BlockViews FullySharded::gradients(int block) {
  if (block == reducing_) complete_reductions();
  BlockViews views;
  for (ShardedUnit* unit : of_block_[static_cast<std::size_t>(block)]) views.push_back(unit->gradient_views());
  return views;
}

// Units of one kind are sharded alike, so those of a block begin together.
bool FullySharded::begins(int block, bool expert) const {
  const auto& units = of_block_[static_cast<std::size_t>(block)];
  return std::any_of(units.begin(), units.end(), [expert](const ShardedUnit* unit) {
    return unit->spec().expert == expert && unit->gradients_begin();
  });
}

void FullySharded::reduce(int block) {
  for (ShardedUnit* unit : of_block_[static_cast<std::size_t>(block)]) unit->initiate_reduce();
  complete_reductions();
  reducing_ = block;
}

void FullySharded::complete_reductions() {
  if (reducing_ < 0) return;
  for (ShardedUnit* unit : of_block_[static_cast<std::size_t>(reducing_)]) unit->complete_reduce();
  reducing_ = -1;
}

void FullySharded::tie_across(Communicator& stages) {
  tied_stages_ = &stages;
  for (const auto& unit : units_) {
    const bool owner = stages.rank() == 0 && unit->spec().name == "embedding";
    const bool copy = stages.rank() + 1 == stages.size() && !unit->spec().tied_to.empty();
    if (owner || copy) tied_unit_ = unit.get();
  }
}

/// Both ends add the same two numbers, so they stay equal bit by bit.
void FullySharded::exchange_tied_gradients() {
  if (tied_unit_ == nullptr) return;
  const int other = tied_stages_->rank() == 0 ? tied_stages_->size() - 1 : 0;
  const View mine = tied_unit_->gradients();
  const Tensor theirs = context_.on.arena->tensor(mine.dtype(), mine.extents(), Label::exchange);
  const Tensor sent = context_.on.arena->tensor(mine.dtype(), mine.extents(), Label::exchange);
  context_.ops->copy(context_.on, mine, sent);
  tied_stages_->start_group();
  Pending sending = tied_stages_->initiate_send(sent, other), receiving = tied_stages_->initiate_receive(theirs, other);
  tied_stages_->end_group();
  receiving.complete();
  sending.complete();
  context_.ops->accumulate(context_.on, theirs, mine);
}

void FullySharded::finish_gradients() {
  complete_reductions();
  for (const auto& unit : units_) unit->reduce_replicas();
  for (const auto& unit : units_)
    if (unit->tied()) unit->add_gradients_to_tied();
  exchange_tied_gradients();
}

void FullySharded::zero_gradients() {
  for (const auto& unit : units_) unit->zero_gradients();
}

std::int64_t FullySharded::largest_gathered_bytes() const {
  std::int64_t largest = 0;
  for (const auto& units : of_block_) {
    std::int64_t bytes = 0;
    for (const ShardedUnit* unit : units)
      if (unit->layout().placement().shards > 1)
        bytes += unit->layout().whole() * unit->values().bytes() / unit->values().size();
    largest = std::max(largest, bytes);
  }
  return largest;
}

}  // namespace moesaic
