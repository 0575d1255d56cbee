#pragma once
/// One checkpoint: one HDF5 file, written and read by all ranks together, on any grid.

#include <mpi.h>

#include <filesystem>

#include "moesaic/checkpoint/state.hpp"

namespace moesaic {

/// What a checkpoint says beside its arrays.
struct CheckpointInfo {
  static constexpr std::int64_t format = 1;  ///< of the file; a newer one is refused

  std::int64_t step = 0;     ///< finished updates
  std::int64_t tokens = 0;   ///< trained on so far
  std::int64_t samples = 0;  ///< the data position: the next sample's number
  std::uint64_t seed = 0;
  std::string grid;    ///< the grid that wrote it, one line
  std::string deck;    ///< resolved
  std::string config;  ///< the model's config.json
};

/// Writes `path` through `path`.partial; what was there stays until the new one is complete and on disk.
/// AgreedRunError when there is no room for it. Collective.
void save_checkpoint(const std::filesystem::path& path, MPI_Comm ranks, const CheckpointInfo& info,
                     const std::vector<StateArray>& state);

class Hdf5File;

/// InputError when the file is of another program or of a newer format.
CheckpointInfo checkpoint_info(const Hdf5File& file);
/// The same of a file that may be missing. Collective.
CheckpointInfo read_checkpoint_info(const std::filesystem::path& path, MPI_Comm ranks);

/// Whether `state` could be read from the file: InputError as load_checkpoint, from this process alone. Values are not used.
void check_checkpoint(const std::filesystem::path& path, const std::vector<StateArray>& state);

/// Reads each array's elements into its values, whatever grid wrote them. InputError when an array is missing, of another
/// shape or of another type. Collective.
void load_checkpoint(const std::filesystem::path& path, MPI_Comm ranks, const std::vector<StateArray>& state);

}  // namespace moesaic
