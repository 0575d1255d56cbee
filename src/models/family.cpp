#include "moesaic/models/family.hpp"

#include <fmt/ranges.h>

#include <array>
#include <string>

#include "moesaic/base/contract.hpp"
#include "moesaic/base/text.hpp"
#include "moesaic/models/families/deepseek_v3.hpp"
#include "moesaic/models/families/gpt_oss.hpp"
#include "moesaic/models/families/mixtral.hpp"
#include "moesaic/models/families/qwen3_moe.hpp"

namespace moesaic {

namespace {

constexpr std::array families = {
    ModelFamily{"deepseek_v3", deepseek_v3::spec, deepseek_v3::pieces},
    ModelFamily{"gpt_oss", gpt_oss::spec, gpt_oss::pieces},
    ModelFamily{"kimi_k2", deepseek_v3::spec, deepseek_v3::pieces},
    ModelFamily{"mixtral", mixtral::spec, mixtral::pieces},
    ModelFamily{"qwen3_moe", qwen3_moe::spec, qwen3_moe::pieces},
};

std::vector<std::string> known_types() {
  std::vector<std::string> names;
  for (const ModelFamily& family : families) names.emplace_back(family.model_type);
  return names;
}

}  // namespace

const ModelFamily& model_family(std::string_view model_type) {
  for (const ModelFamily& family : families) {
    if (family.model_type == model_type) return family;
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
