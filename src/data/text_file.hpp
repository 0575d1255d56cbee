#pragma once
/// Bytes of a file as tokens.

#include <optional>
#include <span>
#include <string>

#include "moesaic/data/dataset.hpp"
#include "moesaic/grid/block.hpp"
#include "moesaic/io/input_file.hpp"

namespace moesaic {

/// Bytes [part.begin, part.end) of a file. Row r is its bytes [r * S, r * S + S], so (size - 1) / S rows that share one
/// byte with the next: every byte but the first is a label once; a rest shorter than a row is left out.
class TextFile : public Dataset {
 public:
  TextFile(InputFile file, Block part, const DataSettings& settings, std::int64_t vocabulary);

  std::int64_t rows() const override { return (part_.size() - 1) / sequence_; }
  void read(std::int64_t row, Sample& sample) const override;

 private:
  /// Bytes of `range` of the file, all within the vocabulary.
  std::vector<std::int64_t> bytes(Block range) const;

  InputFile file_;
  Block part_;
  std::int64_t sequence_;
  std::optional<std::int64_t> separator_;
  std::int64_t vocabulary_;
};

}  // namespace moesaic
