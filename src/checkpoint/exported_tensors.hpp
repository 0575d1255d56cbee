#pragma once
/// The tensors of an exported folder, from a checkpoint to bytes.

#include <functional>
#include <string>
#include <vector>

#include "moesaic/checkpoint/hf_export.hpp"
#include "moesaic/io/hdf5_file.hpp"
#include "moesaic/io/hf_manifest.hpp"
#include "moesaic/io/safetensors_shards.hpp"

namespace moesaic {

/// Either a piece of the model or an extra tensor.
struct ExportedTensor {
  SafetensorsEntry entry;
  const HfPiece* piece = nullptr;        ///< null: an extra
  const HfExtraTensor* extra = nullptr;  ///< null: a piece
};

/// Those of the model in its order, then the extra ones. `pieces` and `manifest` must outlive them.
std::vector<ExportedTensor> exported_tensors(const std::vector<HfPiece>& pieces, const HfManifest& manifest,
                                             const ExportRequest& request);

/// Takes bytes that begin `at` bytes after the beginning of a tensor.
using TakeBytes = std::function<void(std::int64_t at, const void* bytes, std::int64_t count)>;

/// Hands out all of a tensor's bytes, part by part. `file`: the checkpoint.
void read_exported(const Hdf5File& file, const ExportedTensor& tensor, const TakeBytes& take);

}  // namespace moesaic
