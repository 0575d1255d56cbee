#pragma once
/// What families read from a config.json in the same way. InputError names the file, the key and the figures.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "moesaic/io/hf_config.hpp"
#include "moesaic/models/model_spec.hpp"

namespace moesaic::config_reading {

/// `value` of `key`, if it can be the extent of something.
std::int64_t checked_size(const HfConfig& config, std::string_view key, std::int64_t value);
std::int64_t size(const HfConfig& config, std::string_view key);

/// What the config says, or the smaller number that the deck asks for as model.`what` instead (0: nothing asked).
std::int64_t cut(const HfConfig& config, std::string_view what, std::int64_t value, std::int64_t wanted);

/// num_hidden_layers, cut by the overrides.
std::int64_t layers(const HfConfig& config, const ModelOverrides& overrides);

/// num_experts_per_tok, at most `experts`.
std::int64_t top_k(const HfConfig& config, std::int64_t experts);

/// The first `dense_layers` of `layers` blocks are dense, or as many as the overrides say.
std::vector<bool> sparse_after(std::int64_t dense_layers, std::int64_t layers, const ModelOverrides& overrides);
/// model.dense_layers is at most the number of layers.
void check_dense_layers(const ModelOverrides& overrides, std::int64_t layers);

/// The rotary embedding: without scaling, or YaRN.
RopeSpec rope(const HfConfig& config);

/// Heads of grouped-query attention: num_attention_heads, num_key_value_heads, head_dim.
AttentionSpec grouped_query_attention(const HfConfig& config, const ModelSpec& model);

/// What layer_types says of the first `layers` blocks, or `missing` where the config does not say.
std::vector<std::string> layer_types(const HfConfig& config, std::int64_t layers, std::vector<std::string> missing);

/// num_local_experts experts of `width` in each block, num_experts_per_tok of them for a token, none of them dense.
MoeSpec experts_everywhere(const HfConfig& config, const ModelOverrides& overrides, const ModelSpec& model);

void refuse_other_activations(const HfConfig& config);
void refuse_attention_bias(const HfConfig& config);
void refuse_dropout(const HfConfig& config);

/// The fields that mean the same in every family: sizes, norm_eps, initializer_range, tied head; no blocks.
ModelSpec model(const HfConfig& config, const ModelOverrides& overrides, std::string_view family);

}  // namespace moesaic::config_reading
