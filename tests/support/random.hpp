#pragma once
/// Reproducible random inputs for tests.

#include <cstdint>
#include <random>

#include "support/host_tensor.hpp"

namespace moesaic {

/// Uniform values in [-scale, scale) (floating-point views only). The values are multiples of scale / 2^23, so that
/// f32 and f64 get the same numbers for the same seed when scale is a power of two.
inline void fill_random(View view, std::uint32_t seed, double scale = 1) {
  std::mt19937 generator(seed);
  for (std::int64_t i = 0; i < view.size(); ++i) {
    const auto integer = static_cast<double>(generator() >> 8);
    set_element(view, i, scale * (integer / 8388608.0 - 1.0));
  }
}

/// Uniform integers in [low, high] for views of i32 and i64.
inline void fill_random_integers(View view, std::uint32_t seed, std::int64_t low, std::int64_t high) {
  std::mt19937 generator(seed);
  const auto range = static_cast<std::uint32_t>(high - low + 1);
  for (std::int64_t i = 0; i < view.size(); ++i) set_element(view, i, static_cast<double>(low + generator() % range));
}

inline HostTensor random_tensor(DType type, Extents extents, std::uint32_t seed, double scale = 1) {
  HostTensor tensor(type, extents);
  fill_random(tensor.view(), seed, scale);
  return tensor;
}

}  // namespace moesaic
