#include "moesaic/models/config_reading.hpp"

#include <utility>

#include "moesaic/base/contract.hpp"

namespace moesaic::config_reading {
namespace {

YarnSpec yarn(const HfConfig& scaling, const HfConfig& config) {
  YarnSpec spec;
  spec.factor = scaling.number("factor");
  spec.original_positions =
      scaling.integer("original_max_position_embeddings", config.integer("max_position_embeddings"));
  spec.beta_fast = scaling.number("beta_fast", 32);
  spec.beta_slow = scaling.number("beta_slow", 1);
  spec.mscale = scaling.number("mscale", 0);
  spec.mscale_all_dim = scaling.number("mscale_all_dim", 0);
  if (scaling.has("attention_factor")) spec.attention_factor = scaling.number("attention_factor");
  spec.truncate = scaling.flag("truncate", true);
  MOESAIC_VALIDATE(spec.factor >= 1, "{}: 'factor' is {} (YaRN lengthens a context); give at least 1", scaling.origin(),
                   spec.factor);
  checked_size(scaling, "original_max_position_embeddings", spec.original_positions);
  MOESAIC_VALIDATE(0 < spec.beta_slow && spec.beta_slow <= spec.beta_fast,
                   "{}: 'beta_slow' is {} and 'beta_fast' is {} (the ramp goes from many rotations to few); give "
                   "positive numbers, the second at least as large",
                   scaling.origin(), spec.beta_slow, spec.beta_fast);
  return spec;
}

std::int64_t head_width(const HfConfig& config, std::int64_t hidden, std::int64_t heads) {
  MOESAIC_VALIDATE(config.has("head_dim") || hidden % heads == 0,
                   "{}: 'hidden_size' {} does not divide by 'num_attention_heads' {} (that is the width of a head "
                   "without 'head_dim'); give 'head_dim'",
                   config.origin(), hidden, heads);
  const std::int64_t width = checked_size(config, "head_dim", config.integer("head_dim", hidden / heads));
  MOESAIC_VALIDATE(width % 2 == 0, "{}: 'head_dim' is {} (the rotary embedding turns pairs); give an even number",
                   config.origin(), width);
  return width;
}

}  // namespace

std::int64_t checked_size(const HfConfig& config, std::string_view key, std::int64_t value) {
  constexpr std::int64_t most = std::int64_t{1} << 24;  // of any one extent; far beyond every model, short of overflow
  MOESAIC_VALIDATE(0 < value && value <= most, "{}: '{}' is {} (it is a size); give an integer from 1 to {}",
                   config.origin(), key, value, most);
  return value;
}

std::int64_t size(const HfConfig& config, std::string_view key) {
  return checked_size(config, key, config.integer(key));
}

std::int64_t cut(const HfConfig& config, std::string_view what, std::int64_t value, std::int64_t wanted) {
  if (wanted == 0) return value;
  MOESAIC_VALIDATE(0 < wanted && wanted <= value,
                   "model.{} is {}, but {} has {} (a slice takes the first of them); give a number from 1 to {}", what,
                   wanted, config.origin(), value, value);
  return wanted;
}

std::int64_t layers(const HfConfig& config, const ModelOverrides& overrides) {
  constexpr std::int64_t most_layers = 10000;
  const std::int64_t configured = size(config, "num_hidden_layers");
  MOESAIC_VALIDATE(configured <= most_layers, "{}: 'num_hidden_layers' is {} (no model has so many); give at most {}",
                   config.origin(), configured, most_layers);
  return cut(config, "layers", configured, overrides.layers);
}

std::int64_t top_k(const HfConfig& config, std::int64_t experts) {
  const std::int64_t chosen = size(config, "num_experts_per_tok");
  MOESAIC_VALIDATE(chosen <= experts,
                   "{}: 'num_experts_per_tok' is {}, but there are {} experts (a token goes to different ones); use "
                   "at least {} experts, or at most {} a token",
                   config.origin(), chosen, experts, chosen, experts);
  return chosen;
}

void check_dense_layers(const ModelOverrides& overrides, std::int64_t layers) {
  MOESAIC_VALIDATE(
      overrides.dense_layers <= layers,
      "model.dense_layers is {}, but the model has {} layers (it counts the first of them); give at most {}",
      overrides.dense_layers, layers, layers);
}

std::vector<bool> sparse_after(std::int64_t dense_layers, std::int64_t layers, const ModelOverrides& overrides) {
  check_dense_layers(overrides, layers);
  const std::int64_t dense = overrides.dense_layers < 0 ? dense_layers : overrides.dense_layers;
  std::vector<bool> sparse;
  for (std::int64_t i = 0; i < layers; ++i) sparse.push_back(i >= dense);
  return sparse;
}

RopeSpec rope(const HfConfig& config) {
  const Rope found = config.rope();
  MOESAIC_VALIDATE(
      found.type == "default" || found.type == "yarn",
      "{}: the rope type is '{}' (only 'default' and 'yarn' are built); remove the scaling to train at the "
      "original length",
      found.parameters.origin(), found.type);
  RopeSpec spec{.theta = found.theta};
  if (found.type == "yarn") spec.yarn = yarn(found.parameters, config);
  return spec;
}

AttentionSpec grouped_query_attention(const HfConfig& config, const ModelSpec& model) {
  AttentionSpec spec{.hidden = model.hidden, .norm_eps = model.norm_eps};
  spec.heads = size(config, "num_attention_heads");
  spec.key_heads = checked_size(config, "num_key_value_heads", config.integer("num_key_value_heads", spec.heads));
  MOESAIC_VALIDATE(spec.heads % spec.key_heads == 0,
                   "{}: 'num_attention_heads' {} does not divide by 'num_key_value_heads' {} (each key head serves "
                   "equally many queries); correct one of them",
                   config.origin(), spec.heads, spec.key_heads);
  spec.width = head_width(config, spec.hidden, spec.heads);
  return spec;
}

std::vector<std::string> layer_types(const HfConfig& config, std::int64_t layers, std::vector<std::string> missing) {
  std::vector<std::string> types = config.texts("layer_types", std::move(missing));
  MOESAIC_VALIDATE(std::cmp_less_equal(layers, types.size()),
                   "{}: 'layer_types' names {} layers of {} (each needs one); complete it", config.origin(),
                   types.size(), layers);
  types.resize(static_cast<std::size_t>(layers));
  return types;
}

MoeSpec experts_everywhere(const HfConfig& config, const ModelOverrides& overrides, const ModelSpec& model) {
  MOESAIC_VALIDATE(overrides.dense_layers <= 0,
                   "model.dense_layers is {}, but {} has experts in every block (its config says no width of a dense "
                   "one); leave it out",
                   overrides.dense_layers, config.origin());
  const std::int64_t experts =
      checked_size(config, "num_local_experts", config.either("num_local_experts", "num_experts"));
  MoeSpec spec{.hidden = model.hidden, .width = size(config, "intermediate_size")};
  spec.experts = cut(config, "experts", experts, overrides.experts);
  spec.top_k = top_k(config, spec.experts);
  return spec;
}

void refuse_other_activations(const HfConfig& config) {
  const std::string activation = config.text("hidden_act", "silu");
  MOESAIC_VALIDATE(activation == "silu", "{}: 'hidden_act' is '{}' (only silu is built); use a model with silu",
                   config.origin(), activation);
}

void refuse_attention_bias(const HfConfig& config) {
  MOESAIC_VALIDATE(
      !config.flag("attention_bias", false),
      "{}: 'attention_bias' is true (for this family projections with biases are not built); use a model without them",
      config.origin());
}

void refuse_dropout(const HfConfig& config) {
  MOESAIC_VALIDATE(config.number("attention_dropout", 0) == 0,
                   "{}: 'attention_dropout' is {} (dropout is not built); set it to 0", config.origin(),
                   config.number("attention_dropout"));
}

ModelSpec model(const HfConfig& config, const ModelOverrides& overrides, std::string_view family) {
  ModelSpec spec;
  spec.family = family;
  spec.hidden = size(config, "hidden_size");
  spec.vocabulary = cut(config, "vocabulary", size(config, "vocab_size"), overrides.vocabulary);
  spec.max_positions = size(config, "max_position_embeddings");
  spec.norm_eps = config.number("rms_norm_eps", 1e-6);
  spec.initializer_range = config.number("initializer_range", 0.02);
  spec.tied_head = config.flag("tie_word_embeddings", false);
  return spec;
}

}  // namespace moesaic::config_reading
