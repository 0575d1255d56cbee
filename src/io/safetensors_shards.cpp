#include "moesaic/io/safetensors_shards.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <cstring>

#include "moesaic/io/safetensors.hpp"
#include "safetensors_header.hpp"

namespace moesaic {
namespace {

/// First tensor of each file, and the end.
std::vector<std::size_t> cuts(const std::vector<SafetensorsEntry>& tensors, std::int64_t most_bytes) {
  std::vector<std::size_t> begins{0};
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (bytes > 0 && bytes + tensors[i].bytes() > most_bytes) {
      begins.push_back(i);
      bytes = 0;
    }
    bytes += tensors[i].bytes();
  }
  begins.push_back(tensors.size());
  return begins;
}

std::string file_name(std::size_t file, std::size_t files) {
  return files == 1 ? "model.safetensors" : fmt::format("model-{:05}-of-{:05}.safetensors", file + 1, files);
}

std::string index_text(const std::vector<SafetensorsEntry>& tensors, const std::vector<SafetensorsPlace>& places,
                       const std::vector<SafetensorsShards::File>& files) {
  nlohmann::json index{{"metadata", {{"total_size", 0}}}, {"weight_map", nlohmann::json::object()}};
  std::int64_t total = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    total += tensors[i].bytes();
    index["weight_map"][tensors[i].name] = files[places[i].file].name;
  }
  index["metadata"]["total_size"] = total;
  return index.dump(2) + "\n";
}

}  // namespace

SafetensorsShards::SafetensorsShards(const std::vector<SafetensorsEntry>& tensors, std::int64_t most_bytes) {
  const std::vector<std::size_t> begins = cuts(tensors, most_bytes);
  places_.resize(tensors.size());
  for (std::size_t file = 0; file + 1 < begins.size(); ++file) {
    std::vector<SafetensorsSource> sources;
    for (std::size_t i = begins[file]; i < begins[file + 1]; ++i)
      sources.push_back({tensors[i].name, tensors[i].type, tensors[i].shape});
    const SafetensorsLayout layout = lay_out_safetensors(sources, {{"format", "pt"}});
    files_.push_back({file_name(file, begins.size() - 1), layout.head, layout.bytes});
    for (std::size_t i = begins[file]; i < begins[file + 1]; ++i) places_[i] = {file, layout.begins[i - begins[file]]};
  }
  if (files_.size() > 1) index_ = index_text(tensors, places_, files_);
}

}  // namespace moesaic
