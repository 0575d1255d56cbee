#pragma once
/// The JSON header of a safetensors file, parsed and checked.

#include <map>
#include <span>
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

/// How a file will lie: larger elements first, then by name, so that every tensor is aligned.
struct SafetensorsLayout {
  std::vector<std::size_t> order;  ///< the tensors as they follow each other
  std::string head;                ///< header length and header, padded with blanks to a multiple of 8 bytes
  std::vector<std::int64_t>
      begins;              ///< of each tensor as it was given: first byte, counted from the beginning of the file
  std::int64_t bytes = 0;  ///< of the whole file
};

/// Data is not looked at. InputError when a name is given twice or a shape has no countable elements.
SafetensorsLayout lay_out_safetensors(std::span<const SafetensorsSource> tensors,
                                      const std::map<std::string, std::string>& metadata);

/// Says what is wrong with a file, and with which tensor when that is known.
[[noreturn]] void refuse_safetensors(const std::string& path, std::string_view tensor, const std::string& problem);

}  // namespace moesaic
