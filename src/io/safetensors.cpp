#include "moesaic/io/safetensors.hpp"

#include <algorithm>
#include <cstring>
#include <set>

#include "json_text.hpp"
#include "moesaic/base/contract.hpp"
#include "safetensors_header.hpp"

namespace moesaic {
namespace {

namespace fs = std::filesystem;

SafetensorsHeader read_header(const InputFile& file) {
  const std::string path = file.path().string();
  if (file.size() < 8) refuse_safetensors(path, "", fmt::format("{} bytes hold no header length", file.size()));
  std::uint64_t length = 0;
  file.read_at(0, &length, 8);
  if (length > static_cast<std::uint64_t>(std::min(longest_safetensors_header, file.size() - 8))) {
    refuse_safetensors(path, "",
                       fmt::format("the header length {} exceeds the {} bytes that follow, or {}", length,
                                   file.size() - 8, longest_safetensors_header));
  }
  std::string text(static_cast<std::size_t>(length), '\0');
  file.read_at(8, text.data(), static_cast<std::int64_t>(length));
  return parse_safetensors_header(text, path, file.size());
}

/// Whether elements of `type` are T's as they are stored.
template <class T> bool stored_as_is(StorageType type) { return type == stored(dtype_of<T>::value); }

/// Tensor -> file name, from an index.
std::map<std::string, std::string> read_weight_map(const fs::path& index) {
  const auto json = parse_json_object(read_text(index), index.string());
  const auto found = json.find("weight_map");
  MOESAIC_VALIDATE(found != json.end() && found->is_object(),
                   "{}: no object weight_map (it says which file holds which tensor); download the index again",
                   index.string());
  std::map<std::string, std::string> weight_map;
  for (const auto& [tensor, file] : found->items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    MOESAIC_VALIDATE(!name.empty() && fs::path(name).filename() == name && name != "..",
                     "{}: weight_map of '{}' is no plain file name (files must lie in the folder); correct the index",
                     index.string(), tensor);
    weight_map[tensor] = name;
  }
  return weight_map;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const fs::path& path) : file_(path) {
  SafetensorsHeader header = read_header(file_);
  tensors_ = std::move(header.tensors);
  metadata_ = std::move(header.metadata);
}

const SafetensorsInfo* SafetensorsFile::look_up(std::string_view name) const {
  const auto found =
      std::lower_bound(tensors_.begin(), tensors_.end(), name,
                       [](const SafetensorsInfo& tensor, std::string_view n) { return tensor.name < n; });
  return found != tensors_.end() && found->name == name ? &*found : nullptr;
}

const SafetensorsInfo& SafetensorsFile::find(std::string_view name) const {
  const SafetensorsInfo* tensor = look_up(name);
  MOESAIC_VALIDATE(tensor != nullptr, "{}: no tensor '{}' among its {}; are the weights those of this config.json?",
                   path().string(), name, tensors_.size());
  return *tensor;
}

const SafetensorsInfo& SafetensorsFile::checked(std::string_view name, std::int64_t first, std::int64_t count) const {
  const SafetensorsInfo& tensor = find(name);
  MOESAIC_VALIDATE(first >= 0 && count >= 0 && first <= tensor.size() && count <= tensor.size() - first,
                   "{}: tensor '{}' of shape {} has {} elements, but {} from {} on are needed; are the weights those "
                   "of this config.json?",
                   path().string(), name, to_text(tensor.shape), tensor.size(), count, first);
  return tensor;
}

void SafetensorsFile::read_stored(std::string_view name, std::int64_t first, std::int64_t count, void* out) const {
  const SafetensorsInfo& tensor = checked(name, first, count);
  const std::int64_t bytes = size_of(tensor.type);
  file_.read_at(tensor.begin + first * bytes, out, count * bytes);
}

template <class T>
void SafetensorsFile::read_slice(std::string_view name, std::int64_t first, std::int64_t count, T* out) const {
  const SafetensorsInfo& tensor = checked(name, first, count);
  MOESAIC_VALIDATE(
      converts_to<T>(tensor.type),
      "{}: tensor '{}' is {}, which is not read as {} (no such conversion); convert the file to BF16 or F32",
      path().string(), name, name_of(tensor.type), name_of(dtype_of<T>::value));
  if (stored_as_is<T>(tensor.type)) return read_stored(name, first, count, out);
  const std::int64_t bytes = size_of(tensor.type), piece = (std::int64_t{1} << 20) / bytes;
  std::vector<char> buffer(static_cast<std::size_t>(std::min(count, piece) * bytes));
  for (std::int64_t done = 0; done < count; done += piece) {
    const std::int64_t now = std::min(piece, count - done);
    file_.read_at(tensor.begin + (first + done) * bytes, buffer.data(), now * bytes);
    convert(tensor.type, buffer.data(), now, out + done);
  }
}

template <class T> std::vector<T> SafetensorsFile::read(std::string_view name) const {
  std::vector<T> values(static_cast<std::size_t>(find(name).size()));
  read_slice(name, 0, static_cast<std::int64_t>(values.size()), values.data());
  return values;
}

template void SafetensorsFile::read_slice(std::string_view, std::int64_t, std::int64_t, float*) const;
template void SafetensorsFile::read_slice(std::string_view, std::int64_t, std::int64_t, double*) const;
template void SafetensorsFile::read_slice(std::string_view, std::int64_t, std::int64_t, std::int64_t*) const;
template std::vector<float> SafetensorsFile::read(std::string_view) const;
template std::vector<double> SafetensorsFile::read(std::string_view) const;
template std::vector<std::int64_t> SafetensorsFile::read(std::string_view) const;

SafetensorsFolder::SafetensorsFolder(const fs::path& folder) : folder_(folder) {
  const fs::path single = folder / "model.safetensors", index = folder / "model.safetensors.index.json";
  if (fs::exists(single)) {
    add_file(single, {});
    return;
  }
  MOESAIC_VALIDATE(fs::exists(index),
                   "{}: neither model.safetensors nor model.safetensors.index.json is there (the "
                   "weights are read from them); name a complete Hugging Face folder",
                   folder.string());
  open_indexed(index);
}

void SafetensorsFolder::open_indexed(const fs::path& index) {
  const auto weight_map = read_weight_map(index);
  std::set<std::string> files;
  for (const auto& [tensor, file] : weight_map) files.insert(file);
  for (const std::string& file : files) {
    MOESAIC_VALIDATE(fs::exists(folder_ / file), "{}: names {}, which is not there; download the missing file",
                     index.string(), file);
    add_file(folder_ / file, weight_map);
  }
  for (const auto& [tensor, file] : weight_map) {
    MOESAIC_VALIDATE(contains(tensor), "{}: says that '{}' is in {}, but it is not; download both again",
                     index.string(), tensor, file);
  }
}

/// Tensors that the index places elsewhere are left out; those that it does not know are kept.
void SafetensorsFolder::add_file(const fs::path& path, const std::map<std::string, std::string>& weight_map) {
  files_.emplace_back(path);
  for (const SafetensorsInfo& tensor : files_.back().tensors()) {
    const auto place = weight_map.find(tensor.name);
    if (place != weight_map.end() && place->second != path.filename()) continue;
    MOESAIC_VALIDATE(file_of_.emplace(tensor.name, files_.size() - 1).second,
                     "{}: tensor '{}' is also in another file, and the index places it in neither; correct the index",
                     path.string(), tensor.name);
  }
}

std::vector<std::string> SafetensorsFolder::names() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : file_of_) names.push_back(name);
  return names;
}

const SafetensorsFile& SafetensorsFolder::file(std::string_view name) const {
  const auto found = file_of_.find(name);
  MOESAIC_VALIDATE(found != file_of_.end(),
                   "{}: no tensor '{}' among its {}; are the weights those of this config.json?", folder_.string(),
                   name, file_of_.size());
  return files_[found->second];
}

}  // namespace moesaic
