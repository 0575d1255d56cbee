#pragma once
/// Descriptions of matrices for the bulk copy engine.

#include "moesaic/tensor/view.hpp"

#include <cuda.h>

namespace moesaic::cuda {

/// Rows of a box and how many of its pieces (of 64 elements, 128 bytes) lie side by side.
struct Box {
  int rows, pieces;
};

/// Matrices of bf16, [rows, width] or [matrices, rows, width], as [matrices, width / 64, rows, 64]; boxes are fetched
/// piece by piece in rows of 128 bytes, swizzled; what lies outside of the extents arrives as zero. The width must be a
/// multiple of 64, and rows and matrices start at multiples of 16 bytes.
CUtensorMap make_tensor_map(ConstView matrices, Box box);

}  // namespace moesaic::cuda
