#pragma once
/// The values of data.path and data.validation.

#include <optional>
#include <string>
#include <vector>

namespace moesaic {

struct DataPath {
  std::string path;
  std::optional<double> weight;
};

/// "a", "a,b" or "a:0.7,b:0.3": at least one path; all have weights, or none. A value, or a piece of one, that names an
/// existing file is that file, whatever characters it holds. InputError names `key`.
std::vector<DataPath> parse_paths(const std::string& value, const std::string& key);

/// The share that data.validation holds out; nothing when it names paths. InputError for a number outside (0, 1).
std::optional<double> parse_share(const std::string& validation);

}  // namespace moesaic
