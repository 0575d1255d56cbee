#pragma once
/// cuDNN's attention plans, made once for each shape and kept as long as the program runs.

#include "moesaic/kernels/context.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

namespace moesaic::cuda {

/// The band of keys that a query sees, in cuDNN's terms.
struct Band {
  bool causal = true;
  bool from_the_end = true;  ///< the last query sees the last key; else the first one the first
  std::int64_t window = 0;   ///< 0: none
};

/// All that a plan depends on besides the device: extents and strides of the operands, band and mathematics.
struct AttentionProblem {
  Band band;
  double scale;
  bool deterministic;
  std::vector<ConstView> operands;  ///< forward: q, k, v, out, lse; backward: q, k, v, out, lse, dout, dq, dk, dv

  bool backward() const { return operands.size() > 5; }
};

/// One plan of cuDNN, ready to run.
class CudnnPlan {
 public:
  virtual ~CudnnPlan() = default;
  /// Runs on the operands of a problem equal to the one the plan was made for.
  virtual void run(const OperatorContext& context, const AttentionProblem& problem) = 0;
};

/// The plan for the problem, from the cache or made now; null where cuDNN has none.
CudnnPlan* find_cudnn_plan(const OperatorContext& context, const AttentionProblem& problem);

}  // namespace moesaic::cuda
