#pragma once
/// Initial weights: normal numbers that depend on a key and the global index of the element alone.

#include <cstdint>

#include "moesaic/kernels/context.hpp"

namespace moesaic {

/// values[i] = stddev * normal(key, first + i) (base/random.hpp), f32, flat. On one kind of device the same bits whatever
/// range is asked for; between devices the last bit may differ, as their logarithms and sines do.
using FillNormal = void(const OperatorContext&, std::uint64_t key, std::int64_t first, double stddev, View values);

namespace reference {
FillNormal fill_normal;
}
namespace cuda {
FillNormal fill_normal;
}

}  // namespace moesaic
