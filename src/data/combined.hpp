#pragma once
/// Datasets made of others.

#include <memory>
#include <utility>
#include <vector>

#include "moesaic/data/dataset.hpp"
#include "moesaic/grid/block.hpp"

namespace moesaic {

/// Rows [part.begin, part.end) of another dataset.
class RowRange : public Dataset {
 public:
  RowRange(std::shared_ptr<const Dataset> whole, Block part) : whole_(std::move(whole)), part_(part) {}

  std::int64_t rows() const override { return part_.size(); }
  void read(std::int64_t row, Sample& sample) const override { whole_->read(part_.begin + row, sample); }

 private:
  std::shared_ptr<const Dataset> whole_;
  Block part_;
};

/// The rows of several datasets, one after the other.
class Concatenation : public Dataset {
 public:
  explicit Concatenation(std::vector<std::unique_ptr<Dataset>> parts);

  std::int64_t rows() const override { return ends_.back(); }
  void read(std::int64_t row, Sample& sample) const override;

 private:
  std::vector<std::unique_ptr<Dataset>> parts_;
  std::vector<std::int64_t> ends_;  ///< rows up to the end of each part
};

/// The rows of several datasets in given proportions: a pattern of sources is repeated for ever, and each source gives
/// its rows in order, over and over. Row r is a pure function of r. Weights are rounded to 1/10000 of their sum, none
/// to less than that. The pattern spreads every source evenly (smooth weighted round robin).
/// Example: weights 3 and 1 make the pattern a a b a.
class Mixture : public Dataset {
 public:
  Mixture(std::vector<std::unique_ptr<Dataset>> parts, const std::vector<double>& weights);

  /// The first rows that hold every row of every source.
  std::int64_t rows() const override { return rows_; }
  void read(std::int64_t row, Sample& sample) const override;

 private:
  struct Slot {
    std::size_t part;
    std::int64_t ordinal;  ///< slots of the same part before it in the pattern
  };
  void lay_pattern();
  std::int64_t rows_to_exhaust(std::size_t part) const;

  std::vector<std::unique_ptr<Dataset>> parts_;
  std::vector<std::int64_t> slots_of_;  ///< of each part, in one pattern
  std::vector<Slot> pattern_;
  std::int64_t rows_ = 0;
};

}  // namespace moesaic
