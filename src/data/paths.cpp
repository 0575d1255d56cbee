#include "paths.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <string_view>

#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

bool is_file(std::string_view name) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(name, ignored);
}

std::optional<double> number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t"), end = text.find_last_not_of(" \t");
  return begin == std::string_view::npos ? std::string_view() : text.substr(begin, end + 1 - begin);
}

DataPath parse_path(std::string_view piece, const std::string& key) {
  const std::size_t colon = piece.rfind(':');
  const auto weight = colon == std::string_view::npos ? std::nullopt : number(piece.substr(colon + 1));
  if (!weight || is_file(piece)) return {std::string(piece), std::nullopt};
  MOESAIC_VALIDATE(*weight > 0 && std::isfinite(*weight),
                   "{}: the weight of '{}' is not above 0 (it is a proportion); give a positive number", key, piece);
  return {std::string(piece.substr(0, colon)), weight};
}

}  // namespace

std::vector<DataPath> parse_paths(const std::string& value, const std::string& key) {
  if (is_file(value)) return {{value, std::nullopt}};
  std::vector<DataPath> paths;
  for (std::size_t begin = 0; begin <= value.size();) {
    const std::size_t comma = std::min(value.find(',', begin), value.size());
    paths.push_back(parse_path(trimmed(std::string_view(value).substr(begin, comma - begin)), key));
    MOESAIC_VALIDATE(!paths.back().path.empty(),
                     "{} = '{}' names no file (there is nothing to read); set {} to a path, "
                     "or to several with commas between",
                     key, value, key);
    begin = comma + 1;
  }
  const auto weighted = std::ranges::count_if(paths, [](const DataPath& path) { return path.weight.has_value(); });
  MOESAIC_VALIDATE(weighted == 0 || weighted == std::ssize(paths),
                   "{} = '{}' gives {} of {} files a weight (the proportions of the others are unknown); give all of "
                   "them one, or none",
                   key, value, weighted, paths.size());
  return paths;
}

std::optional<double> parse_share(const std::string& validation) {
  const auto share = number(validation);
  if (!share || is_file(validation)) return std::nullopt;
  MOESAIC_VALIDATE(*share > 0 && *share < 1,
                   "data.validation = {} is no share in (0, 1), nor a file (a part of the data is held out); give "
                   "e.g. 0.02, or a path",
                   validation);
  return share;
}

}  // namespace moesaic
