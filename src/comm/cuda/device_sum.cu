#include "device_sum.hpp"

#include <algorithm>

namespace moesaic {
namespace {

constexpr int threads = 256;
constexpr std::int64_t most_groups = 1024;

template <class T> __global__ void sum_parts(DeviceParts parts, T* out, std::int64_t size) {
  const std::int64_t step = std::int64_t{gridDim.x} * threads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * threads + threadIdx.x; i < size; i += step) {
    T sum = static_cast<const T*>(parts.data[0])[i];
    for (int part = 1; part < parts.count; ++part) sum += static_cast<const T*>(parts.data[part])[i];
    out[i] = sum;
  }
}

template <class T> bool launch(const DeviceParts& parts, void* out, std::int64_t size, cudaStream_t stream) {
  const std::int64_t groups = std::min((size + threads - 1) / threads, most_groups);
  if (size > 0) sum_parts<<<static_cast<unsigned>(groups), threads, 0, stream>>>(parts, static_cast<T*>(out), size);
  return true;
}

}  // namespace

bool sum_on_device(const DeviceParts& parts, DType type, void* out, std::int64_t size, cudaStream_t stream) {
  switch (type) {
    case DType::f32: return launch<float>(parts, out, size, stream);
    case DType::f64: return launch<double>(parts, out, size, stream);
    case DType::i32: return launch<std::int32_t>(parts, out, size, stream);
    case DType::i64: return launch<std::int64_t>(parts, out, size, stream);
    default: return false;
  }
}

}  // namespace moesaic
