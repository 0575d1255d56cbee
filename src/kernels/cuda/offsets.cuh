#pragma once
/// Which group a row belongs to, rows of group e being [offsets[e], offsets[e + 1]).

#include <cstdint>

namespace moesaic::cuda {

/// By bisection of offsets [groups + 1], ascending from 0; `groups` for rows past the last.
__device__ inline std::uint32_t group_of(const std::int64_t* offsets, std::uint32_t groups, std::int64_t row) {
  std::uint32_t first = 0, size = groups;  // the first e with offsets[e + 1] > row
  while (size > 0) {
    const std::uint32_t half = size / 2;
    const bool before = offsets[first + half + 1] <= row;
    first = before ? first + half + 1 : first;
    size = before ? size - half - 1 : half;
  }
  return first;
}

}  // namespace moesaic::cuda
