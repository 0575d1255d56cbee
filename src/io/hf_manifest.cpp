#include "moesaic/io/hf_manifest.hpp"

#include <nlohmann/json.hpp>

#include "json_text.hpp"
#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

using nlohmann::json;

StorageType type_in(const json& value, const std::string& origin) {
  const auto type = storage_type_named(value.get<std::string>());
  MOESAIC_VALIDATE(type.has_value(), "{}: '{:.20}' is no type of a tensor (damaged?); import the folder again", origin,
                   value.get<std::string>());
  return *type;
}

HfManifest manifest_in(const json& object, const std::string& origin) {
  HfManifest manifest;
  manifest.type = type_in(object.at("type"), origin);
  for (const auto& [name, type] : object.at("types").items()) manifest.types[name] = type_in(type, origin);
  if (object.contains("absent")) manifest.absent = object["absent"].get<std::set<std::string>>();
  for (const json& tensor : object.at("extra"))
    manifest.extra.push_back({tensor.at("name").get<std::string>(), type_in(tensor.at("type"), origin),
                              tensor.at("shape").get<Shape>(), tensor.at("array").get<std::string>()});
  return manifest;
}

}  // namespace

StorageType HfManifest::type_of(const std::string& name) const {
  const auto found = types.find(name);
  return found == types.end() ? type : found->second;
}

std::string HfManifest::to_text() const {
  json object{{"type", name_of(type)}, {"types", json::object()}, {"extra", json::array()}};
  for (const auto& [name, stored_type] : types) object["types"][name] = name_of(stored_type);
  if (!absent.empty()) object["absent"] = absent;
  for (const HfExtraTensor& tensor : extra)
    object["extra"].push_back(
        {{"name", tensor.name}, {"type", name_of(tensor.type)}, {"shape", tensor.shape}, {"array", tensor.array}});
  return object.dump();
}

HfManifest HfManifest::parse(const std::string& text, const std::string& origin) {
  try {
    return manifest_in(parse_json_object(text, origin), origin);
  } catch (const json::exception& error) {
    throw InputError(
        fmt::format("{}: not what an import writes ({:.200}); import the folder again", origin, error.what()));
  }
}

}  // namespace moesaic
