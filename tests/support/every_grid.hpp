#pragma once
/// Every factorisation of this job's ranks.

#include <mpi.h>

#include <vector>

#include "moesaic/base/contract.hpp"
#include "moesaic/grid/process_grid.hpp"

namespace moesaic {

/// Those without a pipeline, the plainest first.
inline std::vector<ProcessGrid> every_grid() {
  int ranks = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  std::vector<ProcessGrid> grids;
  for (int replicate = 1; replicate <= ranks; ++replicate)
    for (int context = 1; context <= ranks; ++context)
      for (int expert = 1; expert <= ranks; ++expert) {
        if (ranks % (replicate * context) != 0 || ranks % expert != 0) continue;
        try {
          grids.push_back(ProcessGrid::make({.replicate = replicate, .context = context, .expert = expert}, ranks));
        } catch (const InputError&) {  // not a legal one
        }
      }
  return grids;
}

}  // namespace moesaic
