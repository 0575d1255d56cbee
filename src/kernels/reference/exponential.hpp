#pragma once
/// exp for loops that the compiler turns into vector instructions.

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace moesaic::reference {

/// exp(x) within 2 ulp: x = n ln 2 + r, |r| <= ln(2)/2, times a polynomial in r (Cody and Waite 1980). Below -86.6 (2e-38)
/// it is 0, above 88.72 infinity, NaN stays NaN.
inline float exponential(float x) {
  constexpr float round_to_integer = 12582912.0f;  // 1.5 * 2^23: adding it leaves n in the low bits
  const float shifted = x * 1.44269504f + round_to_integer;
  const float n = shifted - round_to_integer;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  // 2^(n-1) rather than 2^n, which would overflow just below the largest float.
  const auto exponent = (std::bit_cast<std::uint32_t>(shifted) + 126u) << 23;
  const float result = 2.0f * p * std::bit_cast<float>(exponent);
  const float bounded = x > 88.722839f ? std::numeric_limits<float>::infinity() : result;
  return x < -86.6f ? 0.0f : bounded;
}

inline double exponential(double x) { return std::exp(x); }

}  // namespace moesaic::reference
