#pragma once
/// safetensors files: 8 bytes of header length, a JSON header, and the tensors' bytes without holes.

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "moesaic/io/input_file.hpp"
#include "moesaic/io/shape.hpp"
#include "moesaic/io/storage_type.hpp"

namespace moesaic {

/// What a header says of one tensor.
struct SafetensorsInfo {
  std::string name;
  StorageType type = StorageType::f32;
  Shape shape;
  std::int64_t begin = 0;  ///< first byte, counted from the beginning of the file
  std::int64_t end = 0;

  std::int64_t size() const { return (end - begin) / size_of(type); }
};

/// One file. The header is checked whole when it is opened: every mistake is an InputError naming file, tensor and
/// figures. Reading moves the requested bytes only.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  /// In the order of names.
  const std::vector<SafetensorsInfo>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  bool contains(std::string_view name) const { return look_up(name) != nullptr; }
  /// InputError when there is no such tensor.
  const SafetensorsInfo& find(std::string_view name) const;

  /// out [count] = elements [first, first + count) of the flattened tensor as T: float, double (from floating types) or
  /// std::int64_t (from integers). InputError when the type does not convert or the range leaves the tensor.
  template <class T> void read_slice(std::string_view name, std::int64_t first, std::int64_t count, T* out) const;
  /// The whole tensor.
  template <class T = float> std::vector<T> read(std::string_view name) const;
  /// The same elements as they are stored: count * size_of(type) bytes.
  void read_stored(std::string_view name, std::int64_t first, std::int64_t count, void* out) const;

 private:
  const SafetensorsInfo* look_up(std::string_view name) const;
  const SafetensorsInfo& checked(std::string_view name, std::int64_t first, std::int64_t count) const;

  InputFile file_;
  std::vector<SafetensorsInfo> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// A Hugging Face folder: `model.safetensors`, or else the files that `model.safetensors.index.json` names, no other.
class SafetensorsFolder {
 public:
  /// Opens and checks every file. InputError also when a file of the index or a tensor in its file is missing.
  explicit SafetensorsFolder(const std::filesystem::path& folder);

  const std::filesystem::path& path() const { return folder_; }
  /// In order.
  std::vector<std::string> names() const;
  bool contains(std::string_view name) const { return file_of_.find(name) != file_of_.end(); }
  /// InputError when there is no such tensor.
  const SafetensorsInfo& find(std::string_view name) const { return file(name).find(name); }

  /// As in SafetensorsFile.
  template <class T> void read_slice(std::string_view name, std::int64_t first, std::int64_t count, T* out) const {
    file(name).read_slice(name, first, count, out);
  }
  template <class T = float> std::vector<T> read(std::string_view name) const { return file(name).read<T>(name); }
  void read_stored(std::string_view name, std::int64_t first, std::int64_t count, void* out) const {
    file(name).read_stored(name, first, count, out);
  }

 private:
  void open_indexed(const std::filesystem::path& index);
  void add_file(const std::filesystem::path& path, const std::map<std::string, std::string>& weight_map);
  const SafetensorsFile& file(std::string_view name) const;

  std::filesystem::path folder_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, std::size_t, std::less<>> file_of_;
};

/// A tensor to write: `data` holds the stored elements, row-major.
struct SafetensorsSource {
  std::string name;
  StorageType type = StorageType::f32;
  Shape shape;
  const void* data = nullptr;
};

/// Writes one file, larger elements first, so that every tensor is aligned. An existing file is replaced. Throws
/// RunError when the disk refuses.
void write_safetensors(const std::filesystem::path& path, std::span<const SafetensorsSource> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace moesaic
