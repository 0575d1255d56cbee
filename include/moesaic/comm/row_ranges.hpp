#pragma once
/// Where each rank's rows lie in the buffer of an all-to-all.

#include <cstdint>
#include <span>
#include <vector>

#include "moesaic/tensor/view.hpp"

namespace moesaic {

/// Byte ranges of consecutive groups of rows of a contiguous buffer [rows, ...]. Example: f32 [3, 2] with rows {1, 0,
/// 2} has the offsets 0, 8, 8 and the bytes 8, 0, 16. A buffer of no dimension (left out) has rows of no bytes.
class RowRanges {
 public:
  RowRanges(const ConstView& buffer, std::span<const std::int64_t> rows) : offsets_(rows.size() + 1, 0) {
    std::int64_t row_bytes = buffer.rank() == 0 ? 0 : size_of(buffer.dtype());
    for (int i = 1; i < buffer.rank(); ++i) row_bytes *= buffer.extent(i);
    for (std::size_t r = 0; r < rows.size(); ++r) offsets_[r + 1] = offsets_[r] + rows[r] * row_bytes;
    MOESAIC_EXPECT(buffer.rank() == 0 || offsets_.back() <= buffer.bytes());
  }

  int parts() const { return static_cast<int>(offsets_.size()) - 1; }
  std::int64_t offset(int part) const { return offsets_[static_cast<std::size_t>(part)]; }
  std::int64_t bytes(int part) const { return offset(part + 1) - offset(part); }

 private:
  std::vector<std::int64_t> offsets_;
};

}  // namespace moesaic
