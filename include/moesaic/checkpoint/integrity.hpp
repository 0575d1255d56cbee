#pragma once
/// Whether a checkpoint is what was written: every block of every array has a hash in the file.

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "moesaic/comm/agreement.hpp"
#include "moesaic/comm/communicator.hpp"
#include "moesaic/grid/block.hpp"

namespace moesaic {

/// A part of a checkpoint that differs from what was written.
struct Damage {
  std::string array;  ///< its name
  Block elements;     ///< of the flattened array
  Block bytes;        ///< where they lie in the file; empty: not known
  std::string what;  ///< instead of elements and bytes, where no block is to blame: "its hashes leave out elements ..."
};

/// "/parameters/head: elements 0 to 1048575 differ (bytes 4194304 to 8388607)"
std::string describe(const Damage& damage);

/// A checkpoint is not what was written, on all ranks alike.
struct DamagedCheckpointError : AgreedInputError {
  DamagedCheckpointError(const std::filesystem::path& file, const std::string& what_differs)
      : AgreedInputError(fmt::format("{} is damaged: {}; use another checkpoint", file.string(), what_differs)),
        path(file), damage(what_differs) {}
  std::filesystem::path path;
  std::string damage;  ///< which array, and where
};

/// DamagedCheckpointError unless `damages`, of the file at `path`, is empty.
void refuse_damages(const std::filesystem::path& path, const std::vector<Damage>& damages);

/// What was compared, and what differs.
struct Verification {
  std::int64_t format = 0;  ///< 1: the file has no hashes, nothing was compared
  std::int64_t step = 0;
  std::int64_t arrays = 0, blocks = 0, bytes = 0;
  std::vector<Damage> damages;  ///< in the order of the file's arrays

  bool intact() const { return damages.empty(); }
};

/// Reads the whole file. InputError when it cannot be opened as a checkpoint at all.
Verification verify_checkpoint(const std::filesystem::path& path);
/// The same, each rank reading its share; one result on all ranks. Collective.
Verification verify_checkpoint(
    const std::filesystem::path& path, Communicator& ranks, const std::function<void()>& alive = [] {});

}  // namespace moesaic
