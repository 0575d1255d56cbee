#include "moesaic/comm/rank_order_sum.hpp"

#include <algorithm>
#include <array>
#include <cstdint>

#include "moesaic/base/contract.hpp"

namespace moesaic {

namespace {

constexpr std::int64_t tile = 2048;             // elements summed in the first-level cache
constexpr std::int64_t parallel_from = 131072;  // elements; below it, starting threads costs more than they save

/// Sums one tile into a local copy first, so that `out` may be any of the parts.
template <class T> void sum_tile(std::span<const void* const> parts, T* out, std::int64_t begin, std::int64_t size) {
  std::array<T, tile> sum;
  std::copy_n(static_cast<const T*>(parts[0]) + begin, size, sum.data());
  for (const void* part : parts.subspan(1)) {
    const T* values = static_cast<const T*>(part) + begin;
    for (std::int64_t i = 0; i < size; ++i) sum[static_cast<std::size_t>(i)] += values[i];
  }
  std::copy_n(sum.data(), size, out + begin);
}

template <class T> void sum_all(std::span<const void* const> parts, View out) {
  T* target = out.data<T>();
  const std::int64_t size = out.size();
#pragma omp parallel for schedule(static) if (size >= parallel_from)
  for (std::int64_t begin = 0; begin < size; begin += tile) {
    sum_tile(parts, target, begin, std::min(tile, size - begin));
  }
}

}  // namespace

void sum_in_rank_order(std::span<const void* const> parts, View out) {
  MOESAIC_EXPECT(!parts.empty() && out.contiguous());
  switch (out.dtype()) {
    case DType::f32: return sum_all<float>(parts, out);
    case DType::f64: return sum_all<double>(parts, out);
    case DType::i32: return sum_all<std::int32_t>(parts, out);
    case DType::i64: return sum_all<std::int64_t>(parts, out);
    default: throw ContractError("sum over ranks of a type without exact or fp32 sums; convert to f32 first");
  }
}

}  // namespace moesaic
