#include <nlohmann/json.hpp>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "moesaic/base/contract.hpp"
#include "moesaic/io/safetensors.hpp"

namespace moesaic {
namespace {

std::int64_t bytes_of(const SafetensorsSource& tensor) {
  const auto count = element_count(tensor.shape);
  MOESAIC_VALIDATE(count.has_value(), "tensor '{}': shape {} has no countable elements; correct the shape", tensor.name,
                   to_text(tensor.shape));
  return *count * size_of(tensor.type);
}

/// Larger elements first, then by name.
std::vector<const SafetensorsSource*> in_file_order(std::span<const SafetensorsSource> tensors) {
  std::vector<const SafetensorsSource*> order;
  for (const SafetensorsSource& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    const auto a_bytes = size_of(a->type), b_bytes = size_of(b->type);
    return a_bytes != b_bytes ? a_bytes > b_bytes : a->name < b->name;
  });
  return order;
}

/// The header, padded with blanks to a multiple of 8 bytes.
std::string header_text(const std::vector<const SafetensorsSource*>& order,
                        const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::int64_t begin = 0;
  for (const auto* tensor : order) {
    MOESAIC_VALIDATE(!header.contains(tensor->name), "tensor '{}' is given twice; names must differ", tensor->name);
    const std::int64_t end = begin + bytes_of(*tensor);
    header[tensor->name] = {{"dtype", name_of(tensor->type)}, {"shape", tensor->shape}, {"data_offsets", {begin, end}}};
    begin = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, std::span<const SafetensorsSource> tensors,
                       const std::map<std::string, std::string>& metadata) {
  const auto order = in_file_order(tensors);
  const std::string header = header_text(order, metadata);
  const std::uint64_t length = header.size();
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(&length), sizeof length);
  file.write(header.data(), static_cast<std::streamsize>(header.size()));
  for (const auto* tensor : order) {
    if (bytes_of(*tensor) > 0) file.write(static_cast<const char*>(tensor->data), bytes_of(*tensor));
  }
  file.close();
  if (file) return;
  throw RunError(fmt::format("{}: writing failed ({}); check the folder, its permissions and the free space",
                             path.string(), std::strerror(errno)));
}

}  // namespace moesaic
