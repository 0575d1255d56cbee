#include "json_text.hpp"

#include "moesaic/base/contract.hpp"

namespace moesaic {

nlohmann::json parse_json_object(const std::string& text, const std::string& where) {
  using nlohmann::json;
  const auto limit_depth = [&](int depth, json::parse_event_t, json&) {
    MOESAIC_VALIDATE(depth <= 32, "{}: JSON nested deeper than 32 levels (damaged?); replace the file", where);
    return true;
  };
  // The parser takes a NUL for the end and what follows for nothing.
  MOESAIC_VALIDATE(text.find('\0') == std::string::npos, "{}: not valid JSON (a NUL byte); correct or replace the file",
                   where);
  json value;
  try {
    value = json::parse(text, limit_depth);
  } catch (const json::exception& error) {
    throw InputError(fmt::format("{}: not valid JSON ({}); correct or replace the file", where, error.what()));
  }
  MOESAIC_VALIDATE(value.is_object(), "{}: the JSON is not an object but {}; correct or replace the file", where,
                   value.type_name());
  return value;
}

}  // namespace moesaic
