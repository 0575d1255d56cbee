#pragma once
/// Random tokens, for measuring speed without a file.

#include <optional>

#include "moesaic/data/dataset.hpp"

namespace moesaic {

/// Token `column` of row `row` is uniform in [0, vocabulary), drawn at index row * (sequence + 1) + column of `key`.
class Synthetic : public Dataset {
 public:
  Synthetic(std::int64_t rows, const DataSettings& settings, std::int64_t vocabulary, std::uint64_t key);

  std::int64_t rows() const override { return rows_; }
  void read(std::int64_t row, Sample& sample) const override;

 private:
  std::int64_t rows_, sequence_;
  std::optional<std::int64_t> separator_;
  std::int64_t vocabulary_;
  std::uint64_t key_;
};

}  // namespace moesaic
