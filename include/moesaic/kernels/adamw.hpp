#pragma once
/// AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101), as PyTorch computes it.

#include "moesaic/kernels/context.hpp"

namespace moesaic {

struct AdamwStep {
  double lr = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  /// Multiplies the gradient first (clipping).
  double gradient_scale = 1;
  /// The number of this update, from 1: bias corrections are 1 - beta^step.
  std::int64_t step = 1;
};

/// For each element, with g = gradient_scale * gradient:
///   p = p * (1 - lr * weight_decay);  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;
///   p = p - lr * (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps).
/// All flat and of one size. parameters, gradient: f32 (or f64); moments: the same, or bf16 (rounded after the update).
/// copy: absent, or bf16: the new p of f32 parameters, rounded.
using Adamw = void(const OperatorContext&, const AdamwStep&, ConstView gradient, View parameters, View first_moment,
                   View second_moment, View copy);

namespace reference {
Adamw adamw;
}
namespace cuda {
Adamw adamw;
}

}  // namespace moesaic
