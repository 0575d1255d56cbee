#pragma once
/// The layers of a model, or of a stage of it, made from its spec.

#include <memory>
#include <optional>
#include <vector>

#include "moesaic/layers/block.hpp"
#include "moesaic/layers/expert_exchange.hpp"
#include "moesaic/layers/rotary_table.hpp"
#include "moesaic/layers/sequence_exchange.hpp"
#include "moesaic/models/model_spec.hpp"
#include "moesaic/tensor/readings.hpp"

namespace moesaic {

/// Blocks [first, last) of a model: 0 is the embedding, 1 to layers the transformer blocks, layers + 1 the head (with
/// the block of multi-token prediction, where there is one).
struct BlockRange {
  std::int64_t first = 0;
  std::int64_t last = 0;
};

/// The range that holds all blocks.
BlockRange all_blocks(const ModelSpec& spec);

/// What a MoE layer counted, on the host.
struct MoeCounts {
  std::vector<std::int64_t> load;  ///< [experts]
  double auxiliary_loss = 0;
  std::optional<ExpertOverflow> overflow;  ///< the fullest of receive buffers that overflowed; counted on the host
};

/// Owns layers and what their routers count, but no parameters: those are handed to each block. Not movable: blocks
/// refer to the rotary table.
class Model {
 public:
  /// positions: the longest sequence. `sequences`, `experts`, `statistics` (null: nobody shares them) and the arena of
  /// `context` must outlive the model.
  Model(const ModelSpec& spec, std::int64_t positions, SequenceExchange& sequences, ExpertExchange& experts,
        StatisticsExchange* statistics, const LayerContext& context)
      : Model(spec, positions, sequences, experts, statistics, context, {all_blocks(spec)}) {}
  /// Only the blocks of `ranges`, one after the other (a stage of a pipeline, chunk by chunk).
  Model(const ModelSpec& spec, std::int64_t positions, SequenceExchange& sequences, ExpertExchange& experts,
        StatisticsExchange* statistics, const LayerContext& context, const std::vector<BlockRange>& ranges);
  Model(const Model&) = delete;

  /// In order.
  const std::vector<std::unique_ptr<ModelBlock>>& blocks() const { return blocks_; }
  /// The units of the whole model in order, those of blocks that are not here too.
  const std::vector<UnitSpec>& units() const { return units_; }

  const RotaryTable& rotary() const { return rotary_; }

  /// One a MoE layer of these blocks, in order.
  const std::vector<MoeAccounts>& accounts() const { return accounts_; }
  /// Which of the whole model's MoE layers each of these is.
  const std::vector<std::int64_t>& account_layers() const { return account_layers_; }
  /// MoE layers of the whole model.
  std::int64_t moe_layers() const { return std::ssize(biased_experts_); }
  /// Experts of the whole model's MoE layer `layer` if it has selection biases, else 0.
  std::int64_t biased_experts(std::int64_t layer) const { return biased_experts_[static_cast<std::size_t>(layer)]; }
  /// Adds what accounts() hold to `readings`; after these were read, counts() are those, in their order.
  void add_counts(Readings& readings);
  std::vector<MoeCounts> counts() const;
  /// Sets loads and auxiliary losses to zero and forgets overflows; selection biases stay.
  void zero_accounts();

 private:
  void make_accounts(const ModelSpec& spec, const std::vector<BlockRange>& ranges);
  /// Zero at first; absent unless the layer is biased.
  View selection_bias(const MoeSpec& moe);

  LayerContext context_;
  RotaryTable rotary_;
  Tensor counted_;                                        ///< f64, flat: loads and auxiliary losses of all layers
  std::vector<double> read_;                              ///< the same as they were read last
  std::vector<std::optional<ExpertOverflow>> overflows_;  ///< as accounts_, which refer to them
  std::vector<Tensor> selection_biases_;
  std::vector<MoeAccounts> accounts_;
  std::vector<std::int64_t> account_layers_;
  std::vector<std::int64_t> biased_experts_;
  std::vector<UnitSpec> units_;
  std::vector<std::unique_ptr<ModelBlock>> blocks_;
};

}  // namespace moesaic
