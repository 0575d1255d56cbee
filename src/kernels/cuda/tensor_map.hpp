#pragma once
/// Descriptions of matrices for the bulk copy engine.

#include "moesaic/tensor/view.hpp"

#include <cuda.h>

namespace moesaic::cuda {

/// Rows of a box and how many of its pieces (of 128 bytes: 64 bf16 or 32 f32) lie side by side.
struct Box {
  int rows, pieces;
};

/// Matrices of bf16 or f32, [rows, width] or [matrices, rows, width], as [matrices, width / piece, rows, piece]; boxes
/// are copied piece by piece in rows of 128 bytes, swizzled; what lies outside of the extents arrives as zero and is
/// not stored. The width must be a multiple of a piece, and rows and matrices start at multiples of 16 bytes.
CUtensorMap make_tensor_map(ConstView matrices, Box box);

}  // namespace moesaic::cuda
