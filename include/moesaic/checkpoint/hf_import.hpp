#pragma once
/// A checkpoint made from a Hugging Face folder.

#include <filesystem>
#include <string>

#include "moesaic/comm/communicator.hpp"

namespace moesaic {

/// Writes `checkpoint`, which must not be there, at step 0: weights and correction biases in f32, no moments, and the
/// folder's extras. Each rank reads and holds its share of every array and at most one tensor more. `world`: all ranks of
/// MPI_COMM_WORLD. `version`: of this program. `prediction`: the depth of multi-token prediction is a part of the model, which
/// the checkpoint's deck says; else its tensors are among the extras. AgreedInputError for what is wrong with the folder. Collective.
void import_hf_folder(const std::filesystem::path& folder, const std::filesystem::path& checkpoint,
                      const std::string& version, Communicator& world, bool prediction = false);

}  // namespace moesaic
