#pragma once
/// Changes to a config.json that leave the order and the spelling of everything else.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace moesaic {

/// Without a change text() is what it was made of, byte for byte.
class HfConfigText {
 public:
  /// InputError naming `origin` when `text` is no JSON object.
  HfConfigText(std::string text, const std::string& origin);
  HfConfigText(const HfConfigText&) = delete;
  ~HfConfigText();

  bool has(std::string_view key) const;
  /// Changes the value of a key that is there; nothing when it is not, or holds that already.
  void set(std::string_view key, std::int64_t value);
  void set(std::string_view key, std::string_view value);
  void set(std::string_view key, const std::vector<std::int64_t>& value);
  /// Keeps the first `length` elements of a list that is there.
  void shorten(std::string_view key, std::size_t length);
  void erase(std::string_view key);

  std::string text() const;

 private:
  struct Content;
  std::unique_ptr<Content> content_;
};

}  // namespace moesaic
