#pragma once
/// Samples by row number. Every rank opens the same data and reads only the rows it trains on.

#include <cstdint>
#include <memory>
#include <vector>

#include "moesaic/data/source.hpp"

namespace moesaic {

/// One row: `sequence` + 1 tokens; inputs are 0..S-1, labels 1..S.
struct Sample {
  std::vector<std::int32_t> tokens;
  std::vector<std::uint8_t> counted;    ///< of each token: does it count as a label (0 or 1); empty: all do
  std::vector<std::int32_t> documents;  ///< of each token; empty: one document
};

class Dataset {
 public:
  virtual ~Dataset() = default;
  /// At least one.
  virtual std::int64_t rows() const = 0;
  /// Overwrites all of `sample` with row `row` in [0, rows). Throws InputError naming file, row and token when an id is
  /// not within the vocabulary, RunError when the disk fails.
  virtual void read(std::int64_t row, Sample& sample) const = 0;
};

struct Datasets {
  std::unique_ptr<Dataset> training;
  std::unique_ptr<Dataset> validation;  ///< null without data.validation
};

/// Opens what the settings name; InputError for what is missing, empty, of another shape, or has ids outside
/// [0, vocabulary) among the first 2^20 tokens of a file. No communication: every rank gets the same.
Datasets open_datasets(const DataSettings& settings, std::int64_t vocabulary, std::uint64_t seed);

}  // namespace moesaic
