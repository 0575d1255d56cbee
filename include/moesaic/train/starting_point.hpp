#pragma once
/// Which checkpoint a run begins with.

#include <map>
#include <string>
#include <vector>

#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/comm/communicator.hpp"
#include "moesaic/train/settings.hpp"

namespace moesaic {

/// Checkpoints that are not what was written, and what differs.
using DamagedCheckpoints = std::map<std::string, std::string>;

/// What was found, the same on all ranks.
struct StartingPoint {
  std::string path;            ///< empty: model.init says what to begin with
  bool own = false;            ///< it lies in the run directory, and not where checkpoint.resume says
  CheckpointInfo info;         ///< of `path`
  DamagedCheckpoints damaged;  ///< newer checkpoints of the run directory that were passed over
};

/// The newest checkpoint of the run directory that can be read and is not in `damaged`; else the one that checkpoint.resume
/// names. Its arrays are not compared with their hashes: load_checkpoint does that, and who meets damage there calls again
/// with it. InputError on all ranks when the run directory holds checkpoints and none of them is good, or the named one is
/// not: nothing starts from the beginning by accident. What is passed over is said. Collective.
StartingPoint find_starting_point(const RunSettings& settings, Communicator& world, DamagedCheckpoints damaged = {});

}  // namespace moesaic
