#include "moesaic/checkpoint/piece_groups.hpp"

#include <algorithm>

namespace moesaic {
namespace {

/// Elements from the first to the last of `rows` rows, in the parameter.
std::int64_t extent_of(const HfPiece& piece, const std::vector<std::int64_t>& strides, std::int64_t rows) {
  std::int64_t extent = 1 + (rows - 1) * strides[0];
  for (int d = 1; d < piece.shape.rank(); ++d) extent += (piece.shape[d] - 1) * strides[static_cast<std::size_t>(d)];
  return extent;
}

}  // namespace

std::vector<std::int64_t> strides_of(const HfPiece& piece) {
  if (!piece.strides.empty()) return piece.strides;
  std::vector<std::int64_t> strides(static_cast<std::size_t>(piece.shape.rank()));
  std::int64_t stride = 1;
  for (int d = piece.shape.rank() - 1; d >= 0; --d) {
    strides[static_cast<std::size_t>(d)] = stride;
    stride *= piece.shape[d];
  }
  return strides;
}

std::int64_t row_size(const HfPiece& piece) {
  std::int64_t size = 1;
  for (int d = 1; d < piece.shape.rank(); ++d) size *= piece.shape[d];
  return size;
}

std::vector<PieceGroup> groups_of(const HfPiece& piece, std::int64_t most) {
  const std::int64_t rows = piece.shape[0], row = row_size(piece);
  if (rows * row == 0) return {};
  const std::vector<std::int64_t> strides = strides_of(piece);
  const std::int64_t limit = std::max(most, 2 * extent_of(piece, strides, 1));
  std::int64_t at_once = std::max<std::int64_t>(1, std::min(rows, limit / row));
  if (strides[0] > 0) at_once = std::min(at_once, 1 + (limit - extent_of(piece, strides, 1)) / strides[0]);
  std::vector<PieceGroup> groups;
  for (std::int64_t first = 0; first < rows; first += at_once) {
    const Block now{first, std::min(first + at_once, rows)};
    const std::int64_t begin = piece.offset + first * strides[0];
    groups.push_back({now, {begin, begin + extent_of(piece, strides, now.size())}});
  }
  return groups;
}

}  // namespace moesaic
