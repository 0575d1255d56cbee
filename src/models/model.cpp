#include "moesaic/models/model.hpp"

#include <bit>

#include "moesaic/layers/dense.hpp"
#include "moesaic/layers/embedding.hpp"
#include "moesaic/layers/head.hpp"
#include "moesaic/layers/prediction_head.hpp"
#include "moesaic/layers/transformer_block.hpp"
#include "moesaic/tensor/transfer.hpp"

#include <utility>

namespace moesaic {

namespace {

RotaryTable rotary_table(const ModelSpec& spec, std::int64_t positions, const LayerContext& context) {
  const std::int64_t width = spec.blocks.empty() ? 0 : spec.blocks[0].rotary_width();
  return {*context.on.arena, context.accumulator(), positions, width, spec.rope};
}

/// The transformer block that block `index` is, or that it has (a head that predicts); else null.
const BlockSpec* transformer_block(const ModelSpec& spec, std::int64_t index) {
  const auto blocks = static_cast<std::int64_t>(spec.blocks.size());
  return 1 <= index && index <= blocks ? &spec.blocks[static_cast<std::size_t>(index - 1)] : nullptr;
}

std::unique_ptr<SequenceMixer> make_attention(const BlockSpec& block, const std::string& path,
                                              SequenceExchange& sequences) {
  if (block.latent) return std::make_unique<LatentAttention>(*block.latent, path + "/attention", sequences);
  return std::make_unique<Attention>(block.attention, path + "/attention", sequences);
}

std::unique_ptr<FeedForward> make_feed_forward(const BlockSpec& block, std::int64_t hidden, const std::string& path,
                                               ExpertExchange& experts, StatisticsExchange* statistics,
                                               const MoeAccounts& accounts) {
  if (!block.sparse()) return std::make_unique<DenseFeedForward>(hidden, block.dense_width, path + "/feed_forward");
  return std::make_unique<MoeLayer>(block.moe, path, experts, statistics, accounts);
}

}  // namespace

BlockRange all_blocks(const ModelSpec& spec) { return {0, spec.layers() + 2}; }

Model::Model(const ModelSpec& spec, std::int64_t positions, SequenceExchange& sequences, ExpertExchange& experts,
             StatisticsExchange* statistics, const LayerContext& context, const std::vector<BlockRange>& ranges)
    : context_(context), rotary_(rotary_table(spec, positions, context)) {
  make_accounts(spec, ranges);
  auto accounts = accounts_.begin();
  const auto make_block = [&](std::int64_t index, bool here) -> std::unique_ptr<ModelBlock> {
    if (index == 0) return std::make_unique<EmbeddingBlock>(spec.vocabulary, spec.hidden);
    const BlockSpec* block = transformer_block(spec, index);
    if (block == nullptr)
      return std::make_unique<HeadBlock>(spec.vocabulary, spec.hidden, spec.norm_eps, spec.tied_head);
    const std::string path = TransformerBlock::path(index - 1);
    const MoeAccounts own = block->sparse() && here ? *accounts++ : MoeAccounts();
    auto transformer = std::make_unique<TransformerBlock>(
        index - 1, spec.hidden, spec.norm_eps, rotary_, make_attention(*block, path, sequences),
        make_feed_forward(*block, spec.hidden, path, experts, statistics, own));
    if (index <= spec.layers()) return transformer;
    return std::make_unique<PredictionHead>(spec.vocabulary, spec.hidden, spec.norm_eps, std::move(transformer));
  };
  for (const BlockRange& range : ranges)
    for (std::int64_t index = range.first; index < range.last; ++index) blocks_.push_back(make_block(index, true));
  for (std::int64_t index = 0; index < all_blocks(spec).last; ++index) {
    const auto block = make_block(index, false);
    units_.insert(units_.end(), block->units().begin(), block->units().end());
  }
}

void Model::make_accounts(const ModelSpec& spec, const std::vector<BlockRange>& ranges) {
  std::vector<const MoeSpec*> layers;
  std::vector<std::int64_t> before(spec.blocks.size() + 1, 0);  // MoE layers before each transformer block
  for (std::size_t i = 0; i < spec.blocks.size(); ++i) before[i + 1] = before[i] + (spec.blocks[i].sparse() ? 1 : 0);
  for (const BlockRange& range : ranges) {
    MOESAIC_EXPECT(0 <= range.first && range.first <= range.last && range.last <= all_blocks(spec).last);
    for (std::int64_t index = range.first; index < range.last; ++index) {
      const BlockSpec* block = transformer_block(spec, index);
      if (block == nullptr || !block->sparse()) continue;
      layers.push_back(&block->moe);
      account_layers_.push_back(before[static_cast<std::size_t>(index - 1)]);
    }
  }
  for (const BlockSpec& block : spec.blocks)
    if (block.sparse()) biased_experts_.push_back(block.moe.biased() ? block.moe.experts : 0);
  std::int64_t size = 0;
  for (const MoeSpec* moe : layers) size += moe->experts + 1;
  overflows_.resize(layers.size());
  counted_ = context_.on.arena->tensor(DType::f64, {size}, Label::batch);
  std::int64_t at = 0;
  for (const MoeSpec* moe : layers) {
    const View load = counted_.view().rows(at, at + moe->experts);
    at += moe->experts;
    accounts_.push_back({.selection_bias = selection_bias(*moe),
                         .load = View(load.raw(), DType::i64, load.device(), load.extents()),
                         .auxiliary_loss = counted_.view().rows(at, at + 1),
                         .overflow = &overflows_[accounts_.size()]});
    at += 1;
  }
  zero_accounts();
}

View Model::selection_bias(const MoeSpec& moe) {
  if (!moe.biased()) return {};
  selection_biases_.push_back(context_.on.arena->tensor(context_.accumulator(), {moe.experts}, Label::batch));
  context_.ops->fill(context_.on, 0, selection_biases_.back());
  return selection_biases_.back();
}

void Model::add_counts(Readings& readings) {
  read_.resize(static_cast<std::size_t>(counted_.view().size()));
  readings.add(counted_, host_view(read_.data(), counted_.view().extents()));
}

std::vector<MoeCounts> Model::counts() const {
  std::vector<MoeCounts> counts;
  auto at = read_.begin();
  for (const MoeAccounts& account : accounts_) {
    const auto end = at + account.load.size();
    MoeCounts& layer = counts.emplace_back();
    std::transform(at, end, std::back_inserter(layer.load),
                   [](double bits) { return std::bit_cast<std::int64_t>(bits); });
    layer.auxiliary_loss = *end;
    layer.overflow = *account.overflow;
    at = end + 1;
  }
  return counts;
}

// Counts and losses are eight bytes each, and zero is the same in both.
void Model::zero_accounts() {
  context_.ops->fill(context_.on, 0, counted_);
  for (auto& overflow : overflows_) overflow.reset();
}

}  // namespace moesaic
