#pragma once
/// moesaic inspect: what is in a checkpoint.

#include <string>
#include <vector>

namespace moesaic {

/// Prints step, grid, arrays and deck of the checkpoint words[1]; one process, no MPI. Returns the exit status.
int inspect_checkpoint(const std::vector<std::string>& words);

}  // namespace moesaic
