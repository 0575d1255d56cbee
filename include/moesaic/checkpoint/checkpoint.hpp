#pragma once
/// One checkpoint: one HDF5 file, written and read by all ranks together, on any grid. docs/design.md has the format.

#include <mpi.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "moesaic/checkpoint/state.hpp"
#include "moesaic/comm/agreement.hpp"
#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/tensor/stream.hpp"

namespace moesaic {

/// What a checkpoint says beside its arrays.
struct CheckpointInfo {
  /// Of the files that are written. Format 1, without hashes, is read too; a newer one is refused.
  static constexpr std::int64_t format = 2;

  std::int64_t step = 0;     ///< finished updates
  std::int64_t tokens = 0;   ///< trained on so far
  std::int64_t samples = 0;  ///< the data position: the next sample's number
  std::uint64_t seed = 0;
  std::string grid;     ///< the grid that wrote it, one line
  std::string version;  ///< of the program that wrote it
  std::string deck;     ///< resolved
  std::string config;   ///< the model's config.json
};

/// The disk has no room for a checkpoint, on all ranks alike. What was there is untouched.
struct NoSpaceError : AgreedRunError {
  using AgreedRunError::AgreedRunError;
};

/// Bytes of one checkpoint, and how long they took.
struct SaveCost {
  std::int64_t bytes = 0;   ///< of all arrays
  double seconds = 0;       ///< from the first byte to the new name on disk
  double file_seconds = 0;  ///< of these, in calls of the file system on the rank that spent most there
  double sync_seconds = 0;  ///< of these, waiting for the disk on the slowest rank
};

/// Writes `path` through `path`.partial, with a hash of every block; what was there stays until the new one is complete and
/// on disk. Values lie in host memory. NoSpaceError when there is no room, else AgreedRunError. Collective.
SaveCost save_checkpoint(const std::filesystem::path& path, MPI_Comm ranks, const CheckpointInfo& info,
                         const std::vector<StateArray>& state);
/// The same over communicators of the caller's own, for a thread beside those that compute; `progress` is called for every
/// block that this rank has written.
SaveCost save_checkpoint(const std::filesystem::path& path, MpiCommunicator& ranks, const CheckpointInfo& info,
                         const std::vector<StateArray>& state, const std::function<void()>& progress);

class Hdf5File;

/// InputError when the file is of another program or of a newer format; DamagedCheckpointError (integrity.hpp) when deck,
/// config or the hashes are not what was written. Read by this process alone.
CheckpointInfo checkpoint_info(const Hdf5File& file);
/// The same of a file that may be missing, read by the first rank for all. Collective.
CheckpointInfo read_checkpoint_info(const std::filesystem::path& path, MPI_Comm ranks);

/// Whether `state` could be read from the file: InputError as load_checkpoint, from this process alone. Values are not used,
/// nor verified.
void check_checkpoint(const std::filesystem::path& path, const std::vector<StateArray>& state);

/// Reads each array's elements into its values, whatever grid wrote them; `stream` is that of the values in device memory.
/// All ranks name the same arrays and together hold every element of them. The hash of every block that is read is
/// compared, by ranks that hold a part of it: on the cut that wrote the file each byte is read once (by each replica), on
/// others no more than twice over all ranks. A rank needs 4 MiB beside the values. InputError on all ranks when an array is
/// missing, of another shape or of another type; DamagedCheckpointError when it is not what was written, and then no value
/// may be used. `alive` is called for every block. Collective.
void load_checkpoint(
    const std::filesystem::path& path, MPI_Comm ranks, const std::vector<StateArray>& state, Stream stream,
    const std::function<void()>& alive = [] {});

}  // namespace moesaic
