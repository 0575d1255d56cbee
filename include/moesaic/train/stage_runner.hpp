#pragma once
/// Carries out a pipeline schedule on this rank's blocks, with their weights gathered just in time.

#include "moesaic/kernels/checked_operators.hpp"
#include "moesaic/layers/block.hpp"
#include "moesaic/parallel/fully_sharded.hpp"
#include "moesaic/parallel/pipeline_link.hpp"
#include "moesaic/tensor/readings.hpp"
#include "moesaic/train/phases.hpp"

namespace moesaic {

/// This rank's blocks. Chunk c holds blocks [chunks[c].begin, chunks[c].end) of `blocks`.
struct StageBlocks {
  std::vector<const ModelBlock*> blocks;
  std::vector<Block> chunks;
};

/// Of a run: sums over counted labels, micro-batches in order.
struct LossSums {
  double loss = 0;
  double prediction = 0;  ///< of multi-token prediction
};

/// When gradients are reduced: after the weight gradients of every micro-batch, or of the last one.
enum class Reduction : std::uint8_t { every_micro_batch, last_micro_batch };

/// The parts outlive this. Every call is collective over the stage's shards and its neighbours in the pipeline.
class StageRunner {
 public:
  StageRunner(StageBlocks stage, FullySharded& sharding, PipelineLink& link, const LayerContext& context)
      : stage_(std::move(stage)), sharding_(&sharding), link_(&link), context_(context) {}

  const PipelinePlace& place() const { return link_->place(); }

  /// Runs the steps of `schedule` on `batches` (forwards alone: an evaluation); `phases` (may be null) learns whether time goes forward or backward.
  void run(const std::vector<ScheduleStep>& schedule, const std::vector<MicroBatch>& batches, Reduction reduction,
           Phases* phases);
  /// From now on the blocks run with the checker's operators, which learns where the work is; null: with their own again.
  void check_with(OperatorCheck* check);
  /// Adds the losses of the last run to `readings`; after these were read, take_loss_sums() gives theirs, 0 on ranks
  /// without the head, and frees what held them on the device.
  void add_losses(Readings& readings);
  LossSums take_loss_sums();

 private:
  /// The blocks whose weights the rest of the schedule needs, in order.
  std::vector<int> order_of_weights(const std::vector<ScheduleStep>& schedule) const;
  /// Weights of `block`, the gather of the next block in the order under way.
  BlockViews take_weights(int block);
  void return_weights(int block);

  /// The layers of a block that are about to work.
  const ModelBlock& enter(int block, const ScheduleStep& step) const;
  void forward(const ScheduleStep& step, const MicroBatch& batch);
  void keep_losses(const ScheduleStep& step, const BlockState* state);
  void backward_input(const ScheduleStep& step, const MicroBatch& batch, bool with_weights);
  void backward_weight(const ScheduleStep& step, const MicroBatch& batch);
  void add_weight_gradients(int block, const ScheduleStep& step, const MicroBatch& batch);
  std::unique_ptr<BlockState>& state(int block, const ScheduleStep& step) {
    return states_[static_cast<std::size_t>(step.micro_batch)][static_cast<std::size_t>(block)];
  }
  const Block& blocks_of(const ScheduleStep& step) const { return stage_.chunks[static_cast<std::size_t>(step.chunk)]; }

  StageBlocks stage_;
  FullySharded* sharding_;
  PipelineLink* link_;
  LayerContext context_;
  const Operators* own_operators_ = context_.ops;
  OperatorCheck* check_ = nullptr;

  // Of the run under way.
  std::vector<int> weights_order_;
  std::size_t weights_taken_ = 0;
  std::vector<std::vector<std::unique_ptr<BlockState>>> states_;  ///< [micro-batch][block]
  Tensor losses_;                                                 ///< f64 [2, micro-batch]: as LossSums
  std::vector<double> losses_read_;
  Reduction reduction_ = Reduction::every_micro_batch;
  bool trains_ = false;  ///< some backward will need what forwards leave
};

}  // namespace moesaic
