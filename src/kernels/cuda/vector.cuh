#pragma once
/// Loads and stores of several neighbouring elements at once, with arithmetic in f32 whatever the storage.

#include "moesaic/tensor/dtype.hpp"

#include <cstdint>

namespace moesaic::cuda {

template <class T> __device__ inline float widen(T value);
template <> __device__ inline float widen(float value) { return value; }
template <> __device__ inline float widen(bf16 value) {
  return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
}

template <class T> __device__ inline T narrow(float value);
template <> __device__ inline float narrow(float value) { return value; }
template <> __device__ inline bf16 narrow(float value) {
  bf16 result;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  return result;
}

/// `count` elements that move as one aligned access.
template <class T, int count> struct alignas(sizeof(T) * count) Vector { T elements[count]; };

template <class T, int count> __device__ inline void load(const T* from, float (&values)[count]) {
  const auto vector = *reinterpret_cast<const Vector<T, count>*>(from);
#pragma unroll
  for (int i = 0; i < count; ++i) values[i] = widen(vector.elements[i]);
}

template <class T, int count> __device__ inline void store(const float (&values)[count], T* to) {
  Vector<T, count> vector;
#pragma unroll
  for (int i = 0; i < count; ++i) vector.elements[i] = narrow<T>(values[i]);
  *reinterpret_cast<Vector<T, count>*>(to) = vector;
}

/// True when vectors of `bytes` can start at `pointer`.
inline bool aligned(const void* pointer, std::int64_t bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % static_cast<std::uintptr_t>(bytes) == 0;
}

constexpr std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace moesaic::cuda
