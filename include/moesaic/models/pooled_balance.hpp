#pragma once
/// The balancing loss as Hugging Face reports it, for comparison; training uses the loss of each layer.

#include <span>

#include "moesaic/tensor/view.hpp"

namespace moesaic {

/// The routing of one MoE layer as its forward left it, in host memory.
struct RecordedRouting {
  ConstView probabilities;  ///< f32 or f64 [tokens, experts]
  ConstView indices;        ///< i32 [tokens, top_k]
};

/// experts * sum_i f_i P_i over the tokens of all layers as if they were those of one: f_i = slots of expert i / tokens,
/// P_i = its mean probability. Perfect balance gives top_k (each layer's own loss divides by it). 0 without tokens.
/// All layers have the same number of experts. Example: one layer, one token, top_k 1, probabilities (0.75, 0.25): 2 * 0.75.
double pooled_auxiliary_loss(std::span<const RecordedRouting> layers);

}  // namespace moesaic
