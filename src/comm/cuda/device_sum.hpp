#pragma once
/// Sums over ranks on the device, in rank order.

#include <cuda_runtime_api.h>

#include <cstdint>

#include "moesaic/tensor/dtype.hpp"

namespace moesaic {

/// What is added up: `count` arrays.
struct DeviceParts {
  static constexpr int most = 64;
  const void* data[most];
  int count = 0;
};

/// out [size] = ((parts[0] + parts[1]) + parts[2]) + ..., as sum_in_rank_order() on the host. `out` may be one of them. False
/// for types that are not summed: all but f32, f64, i32 and i64. Ordered by the stream.
bool sum_on_device(const DeviceParts& parts, DType type, void* out, std::int64_t size, cudaStream_t stream);

}  // namespace moesaic
