#pragma once
/// The JSON header of a safetensors file, parsed and checked.

#include <map>
#include <string>
#include <vector>

#include "moesaic/io/safetensors.hpp"

namespace moesaic {

struct SafetensorsHeader {
  std::vector<SafetensorsInfo> tensors;  ///< in the order of names
  std::map<std::string, std::string> metadata;
};

/// Longest header that the format allows, in bytes.
inline constexpr std::int64_t longest_safetensors_header = 100'000'000;

/// Parses `text`, which stands at bytes [8, 8 + text.size()) of a file of `file_bytes`. Throws InputError unless every
/// tensor's bytes match its type and shape and all tensors together cover the rest of the file exactly.
SafetensorsHeader parse_safetensors_header(const std::string& text, const std::string& path, std::int64_t file_bytes);

/// Says what is wrong with a file, and with which tensor when that is known.
[[noreturn]] void refuse_safetensors(const std::string& path, std::string_view tensor, const std::string& problem);

}  // namespace moesaic
