#pragma once
/// The layers of a model, or of a stage of it, made from its spec.

#include <memory>
#include <vector>

#include "moesaic/layers/block.hpp"
#include "moesaic/layers/expert_exchange.hpp"
#include "moesaic/layers/rotary_table.hpp"
#include "moesaic/models/model_spec.hpp"

namespace moesaic {

/// Blocks [first, last) of a model: 0 is the embedding, 1 to layers the transformer blocks, layers + 1 the head.
struct BlockRange {
  std::int64_t first = 0;
  std::int64_t last = 0;
};

/// The range that holds all blocks.
BlockRange all_blocks(const ModelSpec& spec);

/// Owns layers and what their routers count, but no parameters: those are handed to each block. Not movable: blocks
/// refer to the rotary table.
class Model {
 public:
  /// positions: the longest sequence. `exchange`, `statistics` (null: nobody shares a micro-batch) and the arena of
  /// `context` must outlive the model.
  Model(const ModelSpec& spec, std::int64_t positions, ExpertExchange& exchange, StatisticsExchange* statistics,
        const LayerContext& context)
      : Model(spec, positions, exchange, statistics, context, all_blocks(spec)) {}
  /// Only the blocks of `range`.
  Model(const ModelSpec& spec, std::int64_t positions, ExpertExchange& exchange, StatisticsExchange* statistics,
        const LayerContext& context, BlockRange range);
  Model(const Model&) = delete;

  /// In order.
  const std::vector<std::unique_ptr<ModelBlock>>& blocks() const { return blocks_; }
  /// The units of all blocks, in order.
  std::vector<UnitSpec> units() const;

  /// One a MoE layer of these blocks, in order.
  const std::vector<MoeAccounts>& accounts() const { return accounts_; }
  /// Sets loads and auxiliary losses to zero; selection biases stay.
  void zero_accounts();

 private:
  void make_accounts(const std::vector<const MoeSpec*>& layers);
  /// Zero at first; absent unless the layer is balanced by bias.
  View selection_bias(const MoeSpec& moe);

  LayerContext context_;
  RotaryTable rotary_;
  Tensor counted_;  ///< f64, flat: loads and auxiliary losses of all layers
  std::vector<Tensor> selection_biases_;
  std::vector<MoeAccounts> accounts_;
  std::vector<std::unique_ptr<ModelBlock>> blocks_;
};

}  // namespace moesaic
