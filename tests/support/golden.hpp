#pragma once
/// The reference cases below tests/golden (see its README.md).

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "moesaic/io/safetensors.hpp"

namespace moesaic {

/// The families that have a case.
inline constexpr const char* golden_cases[] = {"qwen3_moe", "deepseek_v3", "kimi_k2", "gpt_oss", "mixtral"};

/// One case, e.g. GoldenCase("qwen3_moe"). Arrays are those of its reference.safetensors, flattened row-major.
class GoldenCase {
 public:
  explicit GoldenCase(std::string_view name)
      : folder_(std::filesystem::path(MOESAIC_GOLDEN) / name), reference_(folder_ / "reference.safetensors") {}

  /// A Hugging Face folder: config.json and model.safetensors.
  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path config() const { return folder_ / "config.json"; }
  std::filesystem::path weights() const { return folder_ / "model.safetensors"; }
  std::filesystem::path gradients() const { return folder_ / "grads" / "model.safetensors"; }

  const SafetensorsFile& reference() const { return reference_; }
  Shape shape(std::string_view array) const { return reference_.find(array).shape; }
  /// An array of floating type, e.g. "train.loss" [20].
  std::vector<double> numbers(std::string_view array) const { return reference_.read<double>(array); }
  double number(std::string_view array) const { return numbers(array).at(0); }
  /// An array of integers, e.g. "train.tokens" [20, batch, 65].
  std::vector<std::int64_t> integers(std::string_view array) const { return reference_.read<std::int64_t>(array); }
  /// The same, as tokens are kept in memory.
  std::vector<std::int32_t> tokens(std::string_view array) const {
    std::vector<std::int32_t> narrow;
    for (std::int64_t token : integers(array)) narrow.push_back(static_cast<std::int32_t>(token));
    return narrow;
  }

 private:
  std::filesystem::path folder_;
  SafetensorsFile reference_;
};

}  // namespace moesaic
