#include "moesaic/io/hf_config.hpp"

#include <nlohmann/json.hpp>
#include <cmath>
#include <utility>

#include "json_text.hpp"
#include "moesaic/base/contract.hpp"
#include "moesaic/io/input_file.hpp"

namespace moesaic {

using nlohmann::json;

struct HfConfig::Content {
  std::string origin;
  std::string source;
  json object;

  /// The value of `key`; null when absent.
  const json& value(std::string_view key) const {
    static const json absent;
    const auto found = object.find(key);
    return found == object.end() ? absent : *found;
  }

  const json& required(std::string_view key) const {
    const json& found = value(key);
    MOESAIC_VALIDATE(!found.is_null(), "{}: '{}' is missing or null (the model needs it); add it", origin, key);
    return found;
  }

  [[noreturn]] void wrong_type(std::string_view key, const json& found, std::string_view expected) const {
    throw InputError(fmt::format("{}: '{}' is {:.60}, not {}; correct it", origin, key, found.dump(), expected));
  }
};

namespace {

/// Integers, and whole numbers that a double holds exactly.
bool is_whole(const json& value) {
  if (value.is_number_unsigned()) return value.get<std::uint64_t>() <= static_cast<std::uint64_t>(INT64_MAX);
  if (value.is_number_integer()) return true;
  if (!value.is_number_float()) return false;
  const double number = value.get<double>();
  return std::abs(number) <= 9007199254740992.0 && number == std::trunc(number);
}

template <class Element, class Accepts>
bool each_of(const json& list, Accepts accepts, std::vector<Element>& elements) {
  if (!list.is_array()) return false;
  for (const json& element : list) {
    if (!accepts(element)) return false;
    elements.push_back(element.get<Element>());
  }
  return true;
}

}  // namespace

HfConfig HfConfig::load(const std::filesystem::path& path) { return parse(read_text(path), path.string()); }

HfConfig HfConfig::parse(std::string text, std::string origin) {
  json object = parse_json_object(text, origin);
  return HfConfig(std::make_shared<const Content>(Content{std::move(origin), std::move(text), std::move(object)}));
}

HfConfig HfConfig::empty_section(std::string origin) {
  return HfConfig(std::make_shared<const Content>(Content{std::move(origin), "", json::object()}));
}

const std::string& HfConfig::source() const { return content_->source; }

const std::string& HfConfig::origin() const { return content_->origin; }

bool HfConfig::has(std::string_view key) const { return !content_->value(key).is_null(); }

std::int64_t HfConfig::integer(std::string_view key) const {
  const json& value = content_->required(key);
  if (!is_whole(value)) content_->wrong_type(key, value, "an integer");
  return value.get<std::int64_t>();
}

double HfConfig::number(std::string_view key) const {
  const json& value = content_->required(key);
  if (!value.is_number()) content_->wrong_type(key, value, "a number");
  return value.get<double>();
}

bool HfConfig::flag(std::string_view key) const {
  const json& value = content_->required(key);
  if (!value.is_boolean()) content_->wrong_type(key, value, "true or false");
  return value.get<bool>();
}

std::string HfConfig::text(std::string_view key) const {
  const json& value = content_->required(key);
  if (!value.is_string()) content_->wrong_type(key, value, "a text");
  return value.get<std::string>();
}

std::vector<std::int64_t> HfConfig::integers(std::string_view key) const {
  const json& value = content_->required(key);
  std::vector<std::int64_t> elements;
  if (!each_of(value, is_whole, elements)) content_->wrong_type(key, value, "a list of integers");
  return elements;
}

std::vector<std::string> HfConfig::texts(std::string_view key) const {
  const json& value = content_->required(key);
  std::vector<std::string> elements;
  const auto is_text = [](const json& element) { return element.is_string(); };
  if (!each_of(value, is_text, elements)) content_->wrong_type(key, value, "a list of texts");
  return elements;
}

std::int64_t HfConfig::integer(std::string_view key, std::int64_t fallback) const {
  return has(key) ? integer(key) : fallback;
}

double HfConfig::number(std::string_view key, double fallback) const { return has(key) ? number(key) : fallback; }

bool HfConfig::flag(std::string_view key, bool fallback) const { return has(key) ? flag(key) : fallback; }

std::string HfConfig::text(std::string_view key, std::string_view fallback) const {
  return has(key) ? text(key) : std::string(fallback);
}

std::vector<std::int64_t> HfConfig::integers(std::string_view key, std::vector<std::int64_t> fallback) const {
  return has(key) ? integers(key) : std::move(fallback);
}

std::vector<std::string> HfConfig::texts(std::string_view key, std::vector<std::string> fallback) const {
  return has(key) ? texts(key) : std::move(fallback);
}

std::int64_t HfConfig::either(std::string_view key, std::string_view other_key) const {
  MOESAIC_VALIDATE(has(key) || has(other_key), "{}: neither '{}' nor '{}' is there (the model needs one); add it",
                   origin(), key, other_key);
  if (!has(other_key)) return integer(key);
  const std::int64_t other = integer(other_key);
  MOESAIC_VALIDATE(integer(key, other) == other, "{}: '{}' is {}, but '{}' is {} (they mean the same); make them agree",
                   origin(), key, integer(key), other_key, other);
  return other;
}

HfConfig HfConfig::section(std::string_view key) const {
  const json& value = content_->required(key);
  if (!value.is_object()) content_->wrong_type(key, value, "an object");
  return HfConfig(std::make_shared<const Content>(Content{fmt::format("{}: {}", origin(), key), "", value}));
}

Rope HfConfig::rope() const {
  const std::string_view key = has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  MOESAIC_VALIDATE(!has("rope_parameters") || !has("rope_scaling"),
                   "{} holds both 'rope_parameters' and 'rope_scaling' (which one counts?); remove one", origin());
  const HfConfig parameters = has(key) ? section(key) : empty_section(fmt::format("{}: {}", origin(), key));
  const std::string type = parameters.text("rope_type", parameters.text("type", "default"));
  const double theta = parameters.has("rope_theta") ? parameters.number("rope_theta") : number("rope_theta");
  MOESAIC_VALIDATE(theta > 0, "{}: 'rope_theta' is {} (it is the base of frequencies); give a positive number",
                   origin(), theta);
  return {type, theta, parameters};
}

}  // namespace moesaic
