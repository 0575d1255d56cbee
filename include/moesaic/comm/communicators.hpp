#pragma once
/// Every communicator of a run, made once from the grid.

#include <memory>

#include "moesaic/comm/communicator.hpp"
#include "moesaic/grid/process_grid.hpp"

namespace moesaic {

/// One communicator a group; ranks within each are in ascending world order.
struct Communicators {
  std::unique_ptr<Communicator> world;
  std::unique_ptr<Communicator> context;           ///< context: ranks that share each sequence
  std::unique_ptr<Communicator> tokens;            ///< replicate x shard x context: ranks with tokens of their own
  std::unique_ptr<Communicator> pipeline_down;     ///< pipeline: stages, for activations
  std::unique_ptr<Communicator> pipeline_up;       ///< the same stages, for gradients
  std::unique_ptr<Communicator> dense_shard;       ///< shard x context: slices of every dense parameter
  std::unique_ptr<Communicator> dense_replicate;   ///< replicate: dense gradients are summed over it too
  std::unique_ptr<Communicator> expert;            ///< expert: blocks of experts
  std::unique_ptr<Communicator> expert_shard;      ///< expert_shard: slices of each expert's parameters
  std::unique_ptr<Communicator> expert_replicate;  ///< expert_replicate: expert gradients are summed over it too
};

}  // namespace moesaic
