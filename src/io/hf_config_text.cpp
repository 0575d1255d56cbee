#include "moesaic/io/hf_config_text.hpp"

#include <nlohmann/json.hpp>
#include <utility>

#include "json_text.hpp"

namespace moesaic {

using nlohmann::ordered_json;

struct HfConfigText::Content {
  std::string source;
  ordered_json object;
  bool changed = false;

  template <class Value> void set(std::string_view key, const Value& value) {
    const auto found = object.find(std::string(key));
    if (found == object.end() || *found == ordered_json(value)) return;
    *found = value;
    changed = true;
  }
};

HfConfigText::HfConfigText(std::string text, const std::string& origin) : content_(std::make_unique<Content>()) {
  parse_json_object(text, origin);  // says what is wrong
  content_->object = ordered_json::parse(text);
  content_->source = std::move(text);
}

HfConfigText::~HfConfigText() = default;

bool HfConfigText::has(std::string_view key) const { return content_->object.contains(std::string(key)); }

void HfConfigText::set(std::string_view key, std::int64_t value) { content_->set(key, value); }

void HfConfigText::set(std::string_view key, std::string_view value) { content_->set(key, std::string(value)); }

void HfConfigText::set(std::string_view key, const std::vector<std::int64_t>& value) { content_->set(key, value); }

void HfConfigText::shorten(std::string_view key, std::size_t length) {
  const auto found = content_->object.find(std::string(key));
  if (found == content_->object.end() || !found->is_array() || found->size() <= length) return;
  found->erase(found->begin() + static_cast<std::ptrdiff_t>(length), found->end());
  content_->changed = true;
}

void HfConfigText::erase(std::string_view key) {
  if (content_->object.erase(std::string(key)) > 0) content_->changed = true;
}

std::string HfConfigText::text() const {
  return content_->changed ? content_->object.dump(2) + "\n" : content_->source;
}

}  // namespace moesaic
