#pragma once
/// The gated unit of swiglu.hpp, one element at a time, in f32.

#include "moesaic/kernels/swiglu.hpp"

namespace moesaic::cuda {

/// Storage: what gate and up are kept in. `usual`: with the options' defaults, whose arithmetic is then left out.
template <class Storage, bool usual = false> struct GatedUnit {
  float alpha, limit, up_offset;

  __device__ float value(float gate, float up) const {
    const float g = at_most(gate);
    return g * sigmoid(scaled(g)) * offset(within(up));
  }

  /// With s = sigmoid(alpha g): d(g s) / dg = s + alpha g s (1 - s). The results may lie where gate and up did.
  __device__ void differentiate(float gate, float up, float output_gradient, float& gate_gradient, float& up_gradient,
                                float& activated) const {
    const float g = at_most(gate), s = sigmoid(scaled(g)), u = offset(within(up)), gs = g * s;
    const bool gate_within = usual || !(gate > limit), up_within = usual || !(fabsf(up) > limit);
    activated = gs * u;
    gate_gradient = gate_within ? output_gradient * u * (s + scaled(gs - gs * s)) : 0.0f;
    up_gradient = up_within ? output_gradient * gs : 0.0f;
  }
  __device__ void differentiate(float gate, float up, float output_gradient, float& gate_gradient,
                                float& up_gradient) const {
    float unused;
    differentiate(gate, up, output_gradient, gate_gradient, up_gradient, unused);
  }

 private:
  __device__ float scaled(float x) const { return usual ? x : alpha * x; }
  __device__ float offset(float x) const { return usual ? x : x + up_offset; }
  /// In bf16 to a few parts in 10^7: exact exponentials and divisions cost the fused kernels more than their products hide.
  __device__ static float sigmoid(float z) {
    if constexpr (sizeof(Storage) < sizeof(float)) return reciprocal(1 + exponential(-z));
    return 1 / (1 + expf(-z));
  }
  /// Without the care of __expf and __fdividef for the smallest numbers, which makes no difference to a sigmoid.
  __device__ static float exponential(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 1.442695041f));
    return y;
  }
  __device__ static float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
  /// NaN stays NaN in both, so that it is seen in the loss.
  __device__ float at_most(float x) const {
    if constexpr (usual) return x;
    float y;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(x), "f"(limit));
    return y;
  }
  __device__ float within(float x) const {
    if constexpr (usual) return x;
    float y;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(at_most(x)), "f"(-limit));
    return y;
  }
};

inline bool is_usual(const SwigluOptions& options) {
  return options.alpha == 1 && options.limit == SwigluOptions().limit && options.up_offset == 0;
}

template <class Storage, bool usual = false> GatedUnit<Storage, usual> gated_unit(const SwigluOptions& options) {
  return {static_cast<float>(options.alpha), static_cast<float>(options.limit), static_cast<float>(options.up_offset)};
}

}  // namespace moesaic::cuda
