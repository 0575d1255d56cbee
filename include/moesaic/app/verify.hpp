#pragma once
/// `moesaic verify CHECKPOINT.h5`

#include <string>
#include <vector>

#include "moesaic/comm/communicator.hpp"

namespace moesaic {

/// Compares every hash of the file and says what was compared. InputError that names every array and range that differ.
/// `words`: the command line from "verify" on. `world`: all ranks, which share the work; null: this process alone.
int verify_command(const std::vector<std::string>& words, Communicator* world);

}  // namespace moesaic
