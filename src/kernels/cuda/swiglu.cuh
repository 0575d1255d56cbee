#pragma once
/// The gated unit of swiglu.hpp, one element at a time, in f32.

#include "moesaic/kernels/swiglu.hpp"

namespace moesaic::cuda {

/// Storage: what gate and up are kept in.
template <class Storage> struct GatedUnit {
  float alpha, limit, up_offset;

  __device__ float value(float gate, float up) const {
    const float g = at_most(gate);
    return g * sigmoid(alpha * g) * (within(up) + up_offset);
  }

  /// With s = sigmoid(alpha g): d(g s) / dg = s (1 + alpha g (1 - s)). The results may lie where gate and up did.
  __device__ void differentiate(float gate, float up, float output_gradient, float& gate_gradient,
                                float& up_gradient) const {
    const float g = at_most(gate), s = sigmoid(alpha * g), u = within(up) + up_offset;
    const bool gate_within = !(gate > limit), up_within = !(fabsf(up) > limit);
    gate_gradient = gate_within ? output_gradient * u * s * (1 + alpha * g * (1 - s)) : 0.0f;
    up_gradient = up_within ? output_gradient * g * s : 0.0f;
  }

 private:
  /// In bf16 to a few parts in 10^7: exact exponentials and divisions cost the fused kernels more than their products hide.
  __device__ static float sigmoid(float z) {
    if constexpr (sizeof(Storage) < sizeof(float)) return __fdividef(1, 1 + __expf(-z));
    return 1 / (1 + expf(-z));
  }
  /// NaN stays NaN in both, so that it is seen in the loss.
  __device__ float at_most(float x) const { return x > limit ? limit : x; }
  __device__ float within(float x) const { return x < -limit ? -limit : at_most(x); }
};

template <class Storage> GatedUnit<Storage> gated_unit(const SwigluOptions& options) {
  return {static_cast<float>(options.alpha), static_cast<float>(options.limit), static_cast<float>(options.up_offset)};
}

}  // namespace moesaic::cuda
