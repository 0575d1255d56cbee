#pragma once
/// From host tokens to what layers read.

#include <vector>

#include "moesaic/data/batch.hpp"
#include "moesaic/kernels/context.hpp"
#include "moesaic/layers/micro_batch.hpp"

namespace moesaic {

/// A step's micro-batches where the layers run, factors left at 1. On the CPU they view the host batches, which must
/// outlive this; on a GPU they are copies (Label::batch), ordered by the stream.
class MicroBatches {
 public:
  MicroBatches(const std::vector<HostBatch>& batches, const OperatorContext& on);

  std::vector<MicroBatch>& views() { return views_; }

 private:
  MicroBatch place(const HostBatch& batch, const OperatorContext& on);

  std::vector<MicroBatch> views_;
  std::vector<Tensor> storage_;
};

}  // namespace moesaic
