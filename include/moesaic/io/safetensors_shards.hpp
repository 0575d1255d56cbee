#pragma once
/// A sharded Hugging Face folder, laid out before anything is written, so that many processes can write it at once.

#include <filesystem>
#include <string>
#include <vector>

#include "moesaic/io/shape.hpp"
#include "moesaic/io/storage_type.hpp"

namespace moesaic {

/// A tensor that will be written.
struct SafetensorsEntry {
  std::string name;
  StorageType type = StorageType::f32;
  Shape shape;

  std::int64_t bytes() const { return element_count(shape).value_or(0) * size_of(type); }
};

/// Where a tensor's bytes go.
struct SafetensorsPlace {
  std::size_t file = 0;
  std::int64_t begin = 0;  ///< first byte, counted from the beginning of the file
};

/// The tensors in their order, in files of at most `most_bytes` (a larger tensor has one of its own). One file is called
/// model.safetensors; several are model-00001-of-00004.safetensors and so on, with model.safetensors.index.json.
class SafetensorsShards {
 public:
  struct File {
    std::string name;
    std::string head;        ///< header length and header: the bytes before the tensors
    std::int64_t bytes = 0;  ///< of the whole file
  };

  /// InputError when two tensors have one name.
  SafetensorsShards(const std::vector<SafetensorsEntry>& tensors, std::int64_t most_bytes);

  const std::vector<File>& files() const { return files_; }
  /// Of each tensor, in the order that they were given.
  const std::vector<SafetensorsPlace>& places() const { return places_; }
  /// Text of model.safetensors.index.json; empty for one file.
  const std::string& index() const { return index_; }

 private:
  std::vector<File> files_;
  std::vector<SafetensorsPlace> places_;
  std::string index_;
};

}  // namespace moesaic
