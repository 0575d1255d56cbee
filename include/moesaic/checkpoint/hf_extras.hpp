#pragma once
/// What travels with the weights of a Hugging Face folder from import to export: tensors that the model does not use, how each
/// tensor was stored, tokenizer and other small files.

#include <string>
#include <vector>

#include "moesaic/checkpoint/extra_arrays.hpp"
#include "moesaic/io/hf_manifest.hpp"
#include "moesaic/io/safetensors.hpp"
#include "moesaic/models/model_spec.hpp"

namespace moesaic {

/// Of the manifest, below ExtraArrays::group.
inline constexpr std::string_view hf_manifest_name = "hugging_face";

/// The folder's extras; this rank reads and holds its part of each. `pieces`: what the model uses. `with_tensors`: those
/// that it does not use, too (not for a slice of a model, which uses parts). Quantised ones are kept as bf16. Local.
ExtraArrays hf_extras(const SafetensorsFolder& folder, const std::vector<HfPiece>& pieces, bool with_tensors, int rank,
                      int ranks);

/// Files that hf_extras leaves out because they are too large to be kept in a checkpoint.
std::vector<std::string> large_files(const SafetensorsFolder& folder);

/// The manifest that a checkpoint holds; a default one (all F32, nothing extra) when it comes from no folder.
HfManifest hf_manifest(const Hdf5File& file);

}  // namespace moesaic
