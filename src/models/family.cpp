#include "moesaic/models/family.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <string>

#include "moesaic/base/contract.hpp"
#include "moesaic/base/text.hpp"

namespace moesaic {

namespace {

std::vector<std::string> known_types() {
  std::vector<std::string> names;
  for (const ModelFamily& family : families::all())
    names.insert(names.end(), family.model_types.begin(), family.model_types.end());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

const ModelFamily& model_family(std::string_view model_type) {
  for (const ModelFamily& family : families::all()) {
    const auto& types = family.model_types;
    if (std::find(types.begin(), types.end(), model_type) != types.end()) return family;
  }
  const std::vector<std::string> known = known_types();
  throw InputError(
      fmt::format("model_type '{}' is of no known family (its layers are not built); known: {}; nearest: {}",
                  model_type, fmt::join(known, ", "), nearest_name(model_type, known)));
}

ModelSpec model_spec(const HfConfig& config, const ModelOverrides& overrides) {
  ModelSpec spec = model_family(config.model_type()).spec(config, overrides);
  MOESAIC_VALIDATE(
      spec.predicts == overrides.prediction,
      "model.multi_token_prediction is asked for, but {} is of model_type '{}' (it is built for deepseek_v3 "
      "and kimi_k2); leave it out",
      config.origin(), spec.family);
  return spec;
}

std::vector<HfPiece> hf_pieces(const ModelSpec& spec) { return model_family(spec.family).pieces(spec); }

}  // namespace moesaic
