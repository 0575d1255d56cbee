#pragma once
/// The way from tokens to losses, which training and evaluation share.

#include <functional>

#include "moesaic/data/batch.hpp"
#include "moesaic/models/model.hpp"
#include "moesaic/parallel/fully_sharded.hpp"

namespace moesaic {

/// Sum of losses over counted labels.
struct LossSum {
  double sum = 0;
  std::int64_t labels = 0;
};

/// Host tokens as a micro-batch, factors left at 1.
MicroBatch view_of(const HostBatch& batch);

/// Runs the blocks of a model with their weights gathered just in time. The parts outlive this. Collective.
class ForwardPass {
 public:
  ForwardPass(Model& model, FullySharded& sharding, const LayerContext& context, Communicator& data_ranks)
      : model_(&model), sharding_(&sharding), context_(context), data_ranks_(&data_ranks) {}

  /// One state a block is left for backward; the last block's weights stay gathered for it. Returns the sum of losses.
  double run(const MicroBatch& batch, std::vector<std::unique_ptr<BlockState>>& states);

  /// Losses over all data ranks; nothing is trained. `batch(m)` makes this rank's micro-batch m; all ranks have as many.
  LossSum evaluate(std::int64_t micro_batches, const std::function<HostBatch(std::int64_t)>& batch);

 private:
  int last_block() const { return static_cast<int>(model_->blocks().size()) - 1; }
  Tensor forward(int block, int next, const MicroBatch& batch, Tensor hidden, std::unique_ptr<BlockState>& state);

  Model* model_;
  FullySharded* sharding_;
  LayerContext context_;
  Communicator* data_ranks_;
};

}  // namespace moesaic
