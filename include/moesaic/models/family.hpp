#pragma once
/// Families of models: how a Hugging Face config.json becomes a ModelSpec, and which of its tensors are ours.

#include <string_view>
#include <vector>

#include "moesaic/io/hf_config.hpp"
#include "moesaic/models/model_spec.hpp"

namespace moesaic {

struct ModelFamily {
  std::string_view model_type;
  ModelSpec (*spec)(const HfConfig&, const ModelOverrides&) = nullptr;
  std::vector<HfPiece> (*pieces)(const ModelSpec&) = nullptr;
};

/// The family of a model_type. InputError naming the known ones when it is not among them.
const ModelFamily& model_family(std::string_view model_type);

/// The model of a config.json, cut by the overrides. InputError naming file, key and figures for what cannot be trained.
ModelSpec model_spec(const HfConfig& config, const ModelOverrides& overrides = {});

/// Every Hugging Face tensor of the model: together they cover each parameter exactly once (of a tied head only the
/// embedding), copies left aside. Order: embedding, blocks, head.
std::vector<HfPiece> hf_pieces(const ModelSpec& spec);

}  // namespace moesaic
