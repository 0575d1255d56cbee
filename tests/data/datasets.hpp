#pragma once
// What the tests of the sources share.
#include <cstdint>
#include <string>
#include <vector>

#include "io/temporary_folder.hpp"
#include "moesaic/base/contract.hpp"
#include "moesaic/data/dataset.hpp"

namespace moesaic::test {

using Tokens = std::vector<std::int32_t>;

inline DataSettings settings_of(DataFormat format, const std::string& path, std::int64_t sequence,
                                const std::string& validation = "") {
  DataSettings settings;
  settings.format = format;
  settings.path = path;
  settings.sequence = sequence;
  settings.validation = validation;
  return settings;
}

inline Sample row_of(const Dataset& data, std::int64_t row) {
  Sample sample;
  data.read(row, sample);
  return sample;
}

/// Tokens of every row.
inline std::vector<Tokens> rows_of(const Dataset& data) {
  std::vector<Tokens> rows;
  for (std::int64_t row = 0; row < data.rows(); ++row) rows.push_back(row_of(data, row).tokens);
  return rows;
}

/// What opening the data is refused with.
inline std::string refusal(const DataSettings& settings, std::int64_t vocabulary = 256) {
  return message_of<InputError>([&] { open_datasets(settings, vocabulary, 1); });
}

inline bool mentions(const std::string& message, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    if (message.find(part) == std::string::npos) return false;
  }
  return true;
}

}  // namespace moesaic::test
