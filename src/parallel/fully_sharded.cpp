#include "moesaic/parallel/fully_sharded.hpp"

#include <algorithm>

namespace moesaic {
namespace {

UnitPlacement placement_of(const UnitSpec& unit, const ProcessGrid& grid, int rank) {
  if (unit.expert) return {grid.extent(Axis::expert), grid.coordinate(rank, Axis::expert), grid.extent(Axis::expert_shard)};
  return {1, 0, grid.extent(Axis::shard) * grid.extent(Axis::context)};
}

ShardedUnit* find_unit(const std::vector<std::unique_ptr<ShardedUnit>>& units, const std::string& name) {
  for (const auto& unit : units)
    if (unit->spec().name == name) return unit.get();
  return nullptr;
}

}  // namespace

FullySharded::FullySharded(const std::vector<std::unique_ptr<ModelBlock>>& blocks, const LayerContext& context,
                           const ProcessGrid& grid, int rank, const Communicators& communicators) {
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

BlockViews FullySharded::gradients(int block) {
  BlockViews views;
  for (ShardedUnit* unit : of_block_[static_cast<std::size_t>(block)]) views.push_back(unit->gradient_views());
  return views;
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

void FullySharded::finish_gradients() {
  complete_reductions();
  for (const auto& unit : units_) unit->reduce_replicas();
  for (const auto& unit : units_)
    if (unit->tied()) unit->add_gradients_to_tied();
}

void FullySharded::zero_gradients() {
  for (const auto& unit : units_) unit->zero_gradients();
}

std::int64_t FullySharded::largest_gathered_bytes() const {
  std::int64_t largest = 0;
  for (const auto& units : of_block_) {
    std::int64_t bytes = 0;
    for (const ShardedUnit* unit : units)
      if (unit->layout().placement().shards > 1) bytes += unit->layout().whole() * unit->values().bytes() / unit->values().size();
    largest = std::max(largest, bytes);
  }
  return largest;
}

}  // namespace moesaic
