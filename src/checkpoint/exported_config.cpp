#include "exported_config.hpp"

#include <algorithm>
#include <string_view>

#include "moesaic/io/hf_config_text.hpp"

namespace moesaic {
namespace {

std::string_view torch_name(StorageType type) {
  switch (type) {
    case StorageType::bf16: return "bfloat16";
    case StorageType::f16: return "float16";
    case StorageType::f64: return "float64";
    default: return "float32";
  }
}

std::vector<std::int64_t> dense_blocks(const ModelSpec& spec) {
  std::vector<std::int64_t> dense;
  for (std::size_t i = 0; i < spec.blocks.size(); ++i)
    if (!spec.blocks[i].sparse()) dense.push_back(static_cast<std::int64_t>(i));
  return dense;
}

void set_dense_blocks(HfConfigText& config, const ModelSpec& spec) {
  const std::vector<std::int64_t> dense = dense_blocks(spec);
  config.set("first_k_dense_replace", std::ssize(dense));
  config.set("mlp_only_layers", dense);
  config.set("decoder_sparse_step", 1);
}

void set_experts(HfConfigText& config, const ModelSpec& spec) {
  const auto sparse = std::find_if(spec.blocks.begin(), spec.blocks.end(), [](const auto& b) { return b.sparse(); });
  if (sparse == spec.blocks.end()) return;
  for (const char* key : {"num_experts", "num_local_experts", "n_routed_experts"}) config.set(key, sparse->moe.experts);
}

}  // namespace

std::string exported_config(const std::string& source, const ModelSpec& spec, StorageType type,
                            const ModelOverrides& overrides) {
  HfConfigText config(source, "config.json");
  config.erase("quantization_config");
  for (const char* key : {"dtype", "torch_dtype"}) config.set(key, torch_name(type));
  config.set("vocab_size", spec.vocabulary);
  if (overrides.layers > 0) {
    config.set("num_hidden_layers", spec.layers());
    config.shorten("layer_types", static_cast<std::size_t>(spec.layers()));
  }
  if (overrides.experts > 0) set_experts(config, spec);
  if (overrides.dense_layers >= 0) set_dense_blocks(config, spec);
  return config.text();
}

}  // namespace moesaic
