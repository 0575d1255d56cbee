#pragma once
/// Hugging Face's config.json: typed look-ups whose errors name the file and the key.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace moesaic {

struct Rope;

/// A parsed configuration (or a section of one). A key whose value is null counts as absent. Getters throw InputError
/// when the key is absent and no fallback is given, or when the value has another type. Copies share the content.
class HfConfig {
 public:
  /// Reads a config.json.
  static HfConfig load(const std::filesystem::path& path);
  /// From text that was stored elsewhere; `origin` names it in messages.
  static HfConfig parse(std::string text, std::string origin);

  /// The text as it was read, unknown keys included; empty for a section.
  const std::string& source() const;
  const std::string& origin() const;

  bool has(std::string_view key) const;
  /// An integer; 32.0 counts as one.
  std::int64_t integer(std::string_view key) const;
  std::int64_t integer(std::string_view key, std::int64_t fallback) const;
  double number(std::string_view key) const;
  double number(std::string_view key, double fallback) const;
  bool flag(std::string_view key) const;
  bool flag(std::string_view key, bool fallback) const;
  std::string text(std::string_view key) const;
  std::string text(std::string_view key, std::string_view fallback) const;
  std::vector<std::int64_t> integers(std::string_view key) const;
  std::vector<std::int64_t> integers(std::string_view key, std::vector<std::int64_t> fallback) const;
  std::vector<std::string> texts(std::string_view key) const;
  std::vector<std::string> texts(std::string_view key, std::vector<std::string> fallback) const;

  /// The integer under whichever of two spellings is there, e.g. ("num_experts", "num_local_experts"). Both are legal
  /// when they agree.
  std::int64_t either(std::string_view key, std::string_view other_key) const;
  /// A nested object.
  HfConfig section(std::string_view key) const;

  /// model_type, e.g. "qwen3_moe".
  std::string model_type() const { return text("model_type"); }
  /// Rotary embedding, from `rope_parameters` or from the older `rope_theta` with `rope_scaling`.
  Rope rope() const;

 private:
  struct Content;
  explicit HfConfig(std::shared_ptr<const Content> content) : content_(std::move(content)) {}
  static HfConfig empty_section(std::string origin);

  std::shared_ptr<const Content> content_;
};

/// Rotary embedding as a configuration states it.
struct Rope {
  std::string type;     ///< "default", "yarn", ...
  double theta;         ///< base of the frequencies
  HfConfig parameters;  ///< `rope_parameters` or `rope_scaling` (factor, beta_fast, ...); empty without scaling
};

}  // namespace moesaic
