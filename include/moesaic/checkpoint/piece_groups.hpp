#pragma once
/// The walk over a Hugging Face tensor whose elements lie elsewhere in a parameter, in groups that fit in memory.

#include <vector>

#include "moesaic/grid/block.hpp"
#include "moesaic/models/model_spec.hpp"

namespace moesaic {

/// Some of the first dimension of a piece, and the range of the parameter that holds its elements (among others, perhaps).
struct PieceGroup {
  Block rows;
  Block covered;
};

/// Strides of the piece, those of a consecutive one written out.
std::vector<std::int64_t> strides_of(const HfPiece& piece);

/// The rows in order, as many at once as have at most `most` elements and cover at most as many, but at least one; more when
/// they cover hardly more than one does (a transposed matrix is one group).
std::vector<PieceGroup> groups_of(const HfPiece& piece, std::int64_t most);

/// Elements of one row.
std::int64_t row_size(const HfPiece& piece);

/// Calls act(i, at) for every element of `rows`: i counts them from 0, row-major, `at` is its place in the parameter.
template <class Act> void for_each_element(const HfPiece& piece, Block rows, const Act& act) {
  const std::vector<std::int64_t> strides = strides_of(piece);
  const int last = piece.shape.rank() - 1;
  const std::int64_t length = last == 0 ? rows.size() : piece.shape[last], stride = strides.back();
  Extents index = piece.shape;
  for (int d = 0; d <= last; ++d) index[d] = 0;
  index[0] = rows.begin;
  const std::int64_t lines = length == 0 ? 0 : rows.size() * row_size(piece) / length;
  std::int64_t i = 0;
  for (std::int64_t line = 0; line < lines; ++line) {
    std::int64_t at = piece.offset;
    for (int d = 0; d <= last; ++d) at += index[d] * strides[static_cast<std::size_t>(d)];
    for (std::int64_t k = 0; k < length; ++k, at += stride) act(i++, at);
    for (int d = last - 1; d >= 0 && ++index[d] == piece.shape[d] && d > 0; --d) index[d] = 0;
  }
}

}  // namespace moesaic
