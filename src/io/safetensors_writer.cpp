#include <nlohmann/json.hpp>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <numeric>
#include <set>

#include "moesaic/base/contract.hpp"
#include "moesaic/io/safetensors.hpp"
#include "safetensors_header.hpp"

namespace moesaic {
namespace {

std::int64_t bytes_of(const SafetensorsSource& tensor) {
  const auto count = element_count(tensor.shape);
  MOESAIC_VALIDATE(count.has_value(), "tensor '{}': shape {} has no countable elements; correct the shape", tensor.name,
                   to_text(tensor.shape));
  return *count * size_of(tensor.type);
}

std::vector<std::size_t> in_file_order(std::span<const SafetensorsSource> tensors) {
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    const auto a_bytes = size_of(tensors[a].type), b_bytes = size_of(tensors[b].type);
    return a_bytes != b_bytes ? a_bytes > b_bytes : tensors[a].name < tensors[b].name;
  });
  return order;
}

std::string head_of(const nlohmann::ordered_json& header) {
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + text;
}

}  // namespace

SafetensorsLayout lay_out_safetensors(std::span<const SafetensorsSource> tensors,
                                      const std::map<std::string, std::string>& metadata) {
  SafetensorsLayout layout{.order = in_file_order(tensors), .head = "", .begins = {}, .bytes = 0};
  layout.begins.resize(tensors.size());
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::set<std::string_view> names;
  for (const std::size_t i : layout.order) {
    const SafetensorsSource& tensor = tensors[i];
    MOESAIC_VALIDATE(names.insert(tensor.name).second, "tensor '{}' is given twice; names must differ", tensor.name);
    const std::int64_t begin = layout.bytes;
    layout.bytes += bytes_of(tensor);
    layout.begins[i] = begin;
    header.push_back(
        {tensor.name,
         {{"dtype", name_of(tensor.type)}, {"shape", tensor.shape}, {"data_offsets", {begin, layout.bytes}}}});
  }
  layout.head = head_of(header);
  for (std::int64_t& begin : layout.begins) begin += std::ssize(layout.head);
  layout.bytes += std::ssize(layout.head);
  return layout;
}

void write_safetensors(const std::filesystem::path& path, std::span<const SafetensorsSource> tensors,
                       const std::map<std::string, std::string>& metadata) {
  const SafetensorsLayout layout = lay_out_safetensors(tensors, metadata);
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(layout.head.data(), std::ssize(layout.head));
  for (const std::size_t i : layout.order) {
    if (bytes_of(tensors[i]) > 0) file.write(static_cast<const char*>(tensors[i].data), bytes_of(tensors[i]));
  }
  file.close();
  if (file) return;
  throw RunError(fmt::format("{}: writing failed ({}); check the folder, its permissions and the free space",
                             path.string(), std::strerror(errno)));
}

}  // namespace moesaic
