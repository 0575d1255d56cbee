#pragma once
/// moesaic import and moesaic export.

#include <string>
#include <vector>

#include "moesaic/comm/communicator.hpp"

namespace moesaic {

/// import HF_DIR CHECKPOINT.h5. Returns the exit status. Collective.
int run_import(const std::vector<std::string>& words, Communicator& world);

/// export CHECKPOINT.h5 HF_DIR [dtype=bf16|fp32]. Returns the exit status. Collective.
int run_export(const std::vector<std::string>& words, Communicator& world);

}  // namespace moesaic
