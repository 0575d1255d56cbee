#pragma once
/// What a checkpoint remembers of the Hugging Face folder that it came from, beside weights and config.json: how each tensor
/// was stored, and which tensors the model does not use.

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "moesaic/io/shape.hpp"
#include "moesaic/io/storage_type.hpp"

namespace moesaic {

/// A tensor that the model does not use, kept as it was stored.
struct HfExtraTensor {
  std::string name;
  StorageType type = StorageType::f32;
  Shape shape;
  std::string array;  ///< where its elements are kept; empty when it has none

  friend bool operator==(const HfExtraTensor&, const HfExtraTensor&) = default;
};

struct HfManifest {
  StorageType type = StorageType::f32;       ///< of the model's tensors
  std::map<std::string, StorageType> types;  ///< of those that are stored otherwise
  std::set<std::string> absent;              ///< of the model's tensors those that the folder did not have
  std::vector<HfExtraTensor> extra;

  /// How tensor `name` of the model was stored.
  StorageType type_of(const std::string& name) const;

  /// As JSON.
  std::string to_text() const;
  /// The reverse; InputError naming `origin` when it is damaged.
  static HfManifest parse(const std::string& text, const std::string& origin);

  friend bool operator==(const HfManifest&, const HfManifest&) = default;
};

}  // namespace moesaic
