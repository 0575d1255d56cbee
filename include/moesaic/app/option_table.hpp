#pragma once
/// The only list of deck keys. Help, parsing, checks and the dumped deck come from it.

#include <functional>
#include <string>
#include <vector>

#include "moesaic/train/settings.hpp"

namespace moesaic {

struct Option {
  std::string name;      ///< "section.key"
  std::string type;      ///< "integer", "number", "text", "flag", "hh:mm:ss", or the choices "a | b"
  std::string fallback;  ///< default, as it would be written; empty: none
  std::string unit;      ///< of the value; empty: none
  std::string sentence;  ///< what it does
  bool required = false;
  /// Reads the text into the settings; throws InputError "key = text is ...; what to do".
  std::function<void(RunSettings&, const std::string& text)> set;
  bool fixed = false;  ///< nothing but the default is built yet

  std::string section() const { return name.substr(0, name.find('.')); }
  std::string key() const { return name.substr(name.find('.') + 1); }
};

/// All options, section by section.
const std::vector<Option>& option_table();

/// What no single option can see: combinations that make no sense. InputError says which and what to do.
void check_combinations(const RunSettings& settings);

}  // namespace moesaic
