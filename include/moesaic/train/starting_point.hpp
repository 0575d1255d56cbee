#pragma once
/// Which checkpoint a run begins with.

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/comm/communicator.hpp"
#include "moesaic/train/settings.hpp"

namespace moesaic {

/// What was found, the same on all ranks.
struct StartingPoint {
  std::string path;     ///< every hash of it has been compared; empty: model.init says what to begin with
  bool own = false;     ///< it lies in the run directory, and not where checkpoint.resume says
  CheckpointInfo info;  ///< of `path`
  std::map<std::string, std::string>
      damaged;  ///< newer checkpoints of the run directory that were passed over, and why
};

/// The newest checkpoint of the run directory that is what was written; else the one that checkpoint.resume names.
/// InputError on all ranks when the run directory holds checkpoints and none of them is good, or the named one is not:
/// nothing starts from the beginning by accident. What is passed over is said. `alive` is called now and then. Collective.
StartingPoint find_starting_point(
    const RunSettings& settings, Communicator& world, const std::function<void()>& alive = [] {});

}  // namespace moesaic
