#pragma once
/// A Hugging Face folder made from a checkpoint.

#include <filesystem>
#include <optional>

#include "moesaic/comm/communicator.hpp"
#include "moesaic/io/storage_type.hpp"
#include "moesaic/models/model_spec.hpp"

namespace moesaic {

struct ExportRequest {
  /// Of floating tensors; none: as each was imported, f32 where nothing was. Selection biases are kept as they are.
  std::optional<StorageType> type;
  ModelOverrides overrides;                               ///< those of the run that wrote the checkpoint
  std::int64_t file_bytes = std::int64_t{5'000'000'000};  ///< most bytes of one file
};

/// Makes `folder`, which must not be there or be empty: config.json, safetensors, and what was imported beside them. The ranks
/// write different tensors at once, each holding a part of one. `world`: all ranks of MPI_COMM_WORLD. AgreedInputError when
/// the checkpoint is damaged. Collective.
void export_hf_folder(const std::filesystem::path& checkpoint, const std::filesystem::path& folder,
                      const ExportRequest& request, Communicator& world);

}  // namespace moesaic
