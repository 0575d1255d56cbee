#pragma once
/// The config.json of an exported folder.

#include <string>

#include "moesaic/checkpoint/hf_export.hpp"
#include "moesaic/models/model_spec.hpp"

namespace moesaic {

/// `source` in its own spelling, with what is no longer true changed: quantization (nothing is quantised), the type of the
/// weights, and the extents of a slice. `spec`: the model that is exported; `type`: of its weights.
std::string exported_config(const std::string& source, const ModelSpec& spec, StorageType type,
                            const ModelOverrides& overrides);

}  // namespace moesaic
