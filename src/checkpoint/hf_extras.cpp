#include "moesaic/checkpoint/hf_extras.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>

#include "moesaic/io/hdf5_file.hpp"
#include "moesaic/io/hf_tensor.hpp"
#include "moesaic/io/input_file.hpp"

namespace moesaic {
namespace fs = std::filesystem;
namespace {

constexpr std::int64_t largest_file = std::int64_t{1} << 26;

using Bytes = std::vector<std::byte>;

std::optional<DType> memory_type(StorageType type) {
  for (const DType candidate : {DType::f32, DType::bf16, DType::f64, DType::i64, DType::i32, DType::u8})
    if (stored(candidate) == type) return candidate;
  return std::nullopt;
}

/// "tensors/<name>" where the name suits HDF5, else a number.
std::string array_name(const std::string& tensor, std::size_t number) {
  const auto plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '-';
  };
  const bool fine =
      std::all_of(tensor.begin(), tensor.end(), plain) && tensor.find_first_not_of('.') != std::string::npos;
  return fine ? "tensors/" + tensor : fmt::format("tensors/#{}", number);
}

/// Elements as they are kept: stored bytes, or numbers in bf16.
Bytes read_extra(const SafetensorsFolder& folder, const HfTensor& tensor, Block elements) {
  const std::int64_t size = size_of(tensor.type);
  Bytes bytes(static_cast<std::size_t>(elements.size() * size));
  if (tensor.encoding == HfEncoding::plain) {
    folder.read_stored(tensor.name, elements.begin, elements.size(), bytes.data());
    return bytes;
  }
  constexpr std::int64_t at_once = std::int64_t{1} << 22;
  std::vector<float> numbers;
  for (std::int64_t done = 0; done < elements.size(); done += at_once) {
    const std::int64_t now = std::min(at_once, elements.size() - done);
    numbers.resize(static_cast<std::size_t>(now));
    read_hf_tensor(folder, tensor, {elements.begin + done, elements.begin + done + now}, numbers.data());
    convert_back(tensor.type, numbers.data(), now, bytes.data() + done * size);
  }
  return bytes;
}

Extents extents_of(const Shape& shape) {
  Extents extents{element_count(shape).value_or(0)};
  if (shape.empty() || shape.size() > Extents::max_rank) return extents;
  switch (shape.size()) {
    case 1: return {shape[0]};
    case 2: return {shape[0], shape[1]};
    case 3: return {shape[0], shape[1], shape[2]};
    default: return {shape[0], shape[1], shape[2], shape[3]};
  }
}

/// A type that memory does not have is kept as bytes.
void add_tensor(ExtraArrays& arrays, const SafetensorsFolder& folder, const HfTensor& tensor, const std::string& name,
                Block elements) {
  Bytes bytes = read_extra(folder, tensor, elements);
  if (const auto type = memory_type(tensor.type))
    return arrays.add(name, *type, extents_of(tensor.shape), elements, std::move(bytes));
  const std::int64_t size = size_of(tensor.type);
  arrays.add(name, DType::u8, {tensor.size() * size}, {elements.begin * size, elements.end * size}, std::move(bytes));
}

/// The most frequent type is that of the model.
void describe_weights(HfManifest& manifest, const SafetensorsFolder& folder, const std::vector<HfPiece>& pieces) {
  std::map<StorageType, std::int64_t> tensors;
  for (const HfPiece& piece : pieces)
    if (const auto tensor = find_hf_tensor(folder, piece.tensor)) ++tensors[tensor->type];
  if (tensors.empty()) return;
  manifest.type = std::max_element(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
                    return a.second < b.second;
                  })->first;
  for (const HfPiece& piece : pieces) {
    const auto tensor = find_hf_tensor(folder, piece.tensor);
    if (tensor && tensor->type != manifest.type) manifest.types[piece.tensor] = tensor->type;
    if (!tensor) manifest.absent.insert(piece.tensor);
  }
}

bool ends_with_any(const std::string& name, const auto& endings) {
  return std::any_of(endings.begin(), endings.end(), [&](const char* ending) { return name.ends_with(ending); });
}

/// Small files beside weights and config.json, in the order of names; with `large`, those that are too large instead.
std::vector<fs::path> files_in(const fs::path& folder, bool large) {
  static constexpr std::array weights{".safetensors", ".safetensors.index.json",
                                      ".bin",         ".bin.index.json",
                                      ".pt",          ".pth",
                                      ".ckpt",        ".h5",
                                      ".msgpack",     ".onnx",
                                      ".gguf"};
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_regular_file() || name.starts_with(".") || name == "config.json" || ends_with_any(name, weights))
      continue;
    const auto size = static_cast<std::int64_t>(entry.file_size());
    if (size > 0 && (size > largest_file) == large) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

void add_text(ExtraArrays& arrays, const std::string& name, const std::string& text, bool mine) {
  const auto size = static_cast<std::int64_t>(text.size());
  Bytes bytes;
  if (mine)
    bytes.assign(reinterpret_cast<const std::byte*>(text.data()),
                 reinterpret_cast<const std::byte*>(text.data() + size));
  arrays.add(name, DType::u8, {size}, {0, mine ? size : 0}, std::move(bytes));
}

}  // namespace

ExtraArrays hf_extras(const SafetensorsFolder& folder, const std::vector<HfPiece>& pieces, bool with_tensors, int rank,
                      int ranks) {
  ExtraArrays arrays;
  HfManifest manifest;
  describe_weights(manifest, folder, pieces);
  std::set<std::string> used;
  for (const HfPiece& piece : pieces) used.insert(piece.tensor);
  for (const HfTensor& tensor : with_tensors ? hf_tensors(folder) : std::vector<HfTensor>()) {
    if (used.contains(tensor.name)) continue;
    const std::string name = tensor.size() == 0 ? "" : array_name(tensor.name, manifest.extra.size());
    manifest.extra.push_back({tensor.name, tensor.type, tensor.shape, name});
    if (!name.empty()) add_tensor(arrays, folder, tensor, name, block_of(tensor.size(), ranks, rank));
  }
  add_text(arrays, std::string(hf_manifest_name), manifest.to_text(), rank == 0);
  for (const fs::path& file : files_in(folder.path(), false)) {
    const std::string text = read_text(file, largest_file);
    arrays.add_file(file.filename().string(), text, rank == 0);
  }
  return arrays;
}

std::vector<std::string> large_files(const SafetensorsFolder& folder) {
  std::vector<std::string> names;
  for (const fs::path& file : files_in(folder.path(), true)) names.push_back(file.filename().string());
  return names;
}

HfManifest hf_manifest(const Hdf5File& file) {
  const std::string name = std::string(ExtraArrays::group) + std::string(hf_manifest_name);
  if (!file.contains("/extra") || !file.contains(name)) return {};
  return HfManifest::parse(file.read_bytes(name), fmt::format("{}: {}", file.path().string(), name));
}

}  // namespace moesaic
