#pragma once
/// The kernels behind cuda::rms_norm_backward (rms_norm.hpp says what they compute).

#include "moesaic/kernels/rms_norm.hpp"

namespace moesaic::cuda {

/// Rows of any width and alignment; reads x and output_gradient for each of the two gradients.
RmsNormBackward plain_rms_norm_backward;

}  // namespace moesaic::cuda
