#pragma once
/// The parts of a softmax over one row.

#include "exponential.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>

namespace moesaic::reference {

/// The largest element, NaN left out; -infinity of none. In lanes, since a maximum in one variable is not vectorised.
template <class T> T row_max(const T* x, std::int64_t width) {
  constexpr std::int64_t lanes = 16;
  T largest[lanes];
  std::fill_n(largest, lanes, -std::numeric_limits<T>::infinity());
  std::int64_t c = 0;
  for (; c + lanes <= width; c += lanes) {
#pragma omp simd
    for (std::int64_t lane = 0; lane < lanes; ++lane) {
      largest[lane] = x[c + lane] > largest[lane] ? x[c + lane] : largest[lane];
    }
  }
  for (; c < width; ++c) largest[0] = std::max(largest[0], x[c]);
  return *std::max_element(largest, largest + lanes);
}

/// sum exp(x - shift), in double over blocks: a vocabulary is too long for one float.
template <class T> double sum_of_exponentials(const T* x, T shift, std::int64_t width) {
  constexpr std::int64_t block = 1024;
  double sum = 0;
  for (std::int64_t begin = 0; begin < width; begin += block) {
    T part = 0;
    const std::int64_t end = std::min(width, begin + block);
#pragma omp simd reduction(+ : part)
    for (std::int64_t c = begin; c < end; ++c) part += exponential(x[c] - shift);
    sum += static_cast<double>(part);
  }
  return sum;
}

/// y = scale * exp(x - shift); y may be x.
template <class T> void scaled_exponentials(const T* x, T shift, T scale, std::int64_t width, T* y) {
#pragma omp simd
  for (std::int64_t c = 0; c < width; ++c) y[c] = scale * exponential(x[c] - shift);
}

}  // namespace moesaic::reference
