#pragma once
/// Families of models: how a Hugging Face config.json becomes a ModelSpec, and which of its tensors are ours.

#include <string_view>
#include <vector>

#include "moesaic/io/hf_config.hpp"
#include "moesaic/models/model_spec.hpp"

namespace moesaic {

/// What one file of src/models/families gives: src/models/families/mixtral.cpp defines `ModelFamily families::mixtral()`,
/// and the build makes the table of all from the names of the files.
struct ModelFamily {
  std::vector<std::string_view> model_types;  ///< of the config.json files that it reads
  ModelSpec (*spec)(const HfConfig&, const ModelOverrides&) = nullptr;
  std::vector<HfPiece> (*pieces)(const ModelSpec&) = nullptr;
};

namespace families {
/// Every family, in the order of the names of their files.
const std::vector<ModelFamily>& all();
}  // namespace families

/// The family of a model_type. InputError naming the known ones when it is not among them.
const ModelFamily& model_family(std::string_view model_type);

/// The model of a config.json, cut by the overrides. InputError naming file, key and figures for what cannot be trained.
ModelSpec model_spec(const HfConfig& config, const ModelOverrides& overrides = {});

/// Every Hugging Face tensor of the model: together they cover each parameter exactly once (of a tied head only the
/// embedding), copies left aside. Order: embedding, blocks, head.
std::vector<HfPiece> hf_pieces(const ModelSpec& spec);

}  // namespace moesaic
