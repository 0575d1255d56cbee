#pragma once
/// Parsing JSON that came from outside.

#include <nlohmann/json.hpp>
#include <string>

namespace moesaic {

/// The object in `text`; InputError naming `where` when it is no JSON, no object, or nested deeper than 32 levels.
nlohmann::json parse_json_object(const std::string& text, const std::string& where);

}  // namespace moesaic
