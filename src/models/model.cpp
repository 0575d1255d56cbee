#include "moesaic/models/model.hpp"

#include "moesaic/layers/embedding.hpp"
#include "moesaic/layers/head.hpp"
#include "moesaic/layers/transformer_block.hpp"

namespace moesaic {

namespace {

RotaryTable rotary_table(const ModelSpec& spec, std::int64_t positions, const LayerContext& context) {
  const std::int64_t width = spec.blocks.empty() ? 0 : spec.blocks[0].attention.width;
  return {*context.on.arena, context.accumulator(), positions, width, spec.rope.theta};
}

/// The block at `index` if it is a transformer block, else null.
const BlockSpec* transformer_block(const ModelSpec& spec, std::int64_t index) {
  const auto layers = static_cast<std::int64_t>(spec.blocks.size());
  return 1 <= index && index <= layers ? &spec.blocks[static_cast<std::size_t>(index - 1)] : nullptr;
}

std::vector<const MoeSpec*> moe_layers(const ModelSpec& spec, BlockRange range) {
  std::vector<const MoeSpec*> layers;
  for (std::int64_t index = range.first; index < range.last; ++index) {
    const BlockSpec* block = transformer_block(spec, index);
    if (block != nullptr && block->sparse()) layers.push_back(&block->moe);
  }
  return layers;
}

}  // namespace

BlockRange all_blocks(const ModelSpec& spec) { return {0, static_cast<std::int64_t>(spec.blocks.size()) + 2}; }

Model::Model(const ModelSpec& spec, std::int64_t positions, ExpertExchange& exchange, StatisticsExchange* statistics,
             const LayerContext& context, BlockRange range)
    : context_(context), rotary_(rotary_table(spec, positions, context)) {
  MOESAIC_EXPECT(0 <= range.first && range.first <= range.last && range.last <= all_blocks(spec).last);
  make_accounts(moe_layers(spec, range));
  auto accounts = accounts_.begin();
  for (std::int64_t index = range.first; index < range.last; ++index) {
    if (index == 0) {
      blocks_.push_back(std::make_unique<EmbeddingBlock>(spec.vocabulary, spec.hidden));
    } else if (const BlockSpec* block = transformer_block(spec, index); block == nullptr) {
      blocks_.push_back(std::make_unique<HeadBlock>(spec.vocabulary, spec.hidden, spec.norm_eps, spec.tied_head));
    } else if (block->sparse()) {
      blocks_.push_back(std::make_unique<TransformerBlock>(index - 1, block->attention, block->moe, spec.norm_eps,
                                                           rotary_, exchange, statistics, *accounts++));
    } else {
      blocks_.push_back(
          std::make_unique<TransformerBlock>(index - 1, block->attention, block->dense_width, spec.norm_eps, rotary_));
    }
  }
}

std::vector<UnitSpec> Model::units() const {
  std::vector<UnitSpec> units;
  for (const auto& block : blocks_) units.insert(units.end(), block->units().begin(), block->units().end());
  return units;
}

void Model::make_accounts(const std::vector<const MoeSpec*>& layers) {
  std::int64_t size = 0;
  for (const MoeSpec* moe : layers) size += moe->experts + 1;
  counted_ = context_.on.arena->tensor(DType::f64, {size}, Label::batch);
  std::int64_t at = 0;
  for (const MoeSpec* moe : layers) {
    const View load = counted_.view().rows(at, at + moe->experts);
    at += moe->experts;
    accounts_.push_back({.selection_bias = selection_bias(*moe),
                         .load = View(load.raw(), DType::i64, load.device(), load.extents()),
                         .auxiliary_loss = counted_.view().rows(at, at + 1)});
    at += 1;
  }
  zero_accounts();
}

View Model::selection_bias(const MoeSpec& moe) {
  if (moe.balance != Balance::bias) return {};
  selection_biases_.push_back(context_.on.arena->tensor(context_.accumulator(), {moe.experts}, Label::batch));
  context_.ops->fill(context_.on, 0, selection_biases_.back());
  return selection_biases_.back();
}

// Counts and losses are eight bytes each, and zero is the same in both.
void Model::zero_accounts() { context_.ops->fill(context_.on, 0, counted_); }

}  // namespace moesaic
