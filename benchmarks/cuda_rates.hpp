#pragma once
/// What benchmarks of memory-bound operators share.

#include "cuda_device.hpp"
#include "moesaic/kernels/elementwise.hpp"

namespace moesaic {

inline double bytes(const Tensor& tensor) { return static_cast<double>(tensor.view().bytes()); }

inline Tensor random(CudaDevice& device, DType type, Extents extents) {
  Tensor result = device.random(extents);
  if (type == DType::bf16) return result;
  Tensor converted = device.tensor(type, extents);
  cuda::copy(device.context(), result, converted);
  return converted;
}

/// i32 [size]: 0, step, 2 step, ... modulo `modulus`.
inline Tensor sequence(CudaDevice& device, std::int64_t size, std::int64_t modulus, std::int64_t step = 1) {
  std::vector<std::int32_t> values(static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<std::int32_t>(static_cast<std::int64_t>(i) * step % modulus);
  return device.integers(values);
}

/// Times `work` and reports the rate of `amount` bytes.
template <class Work> void measure(benchmark::State& state, CudaDevice& device, double amount, const Work& work) {
  device.time(state, [&] { work(device.context()); });
  report_bytes(state, amount);
}

}  // namespace moesaic
