#pragma once
/// Operands of the benchmarks: tensors of an arena filled with moderate numbers, and the counters they report.

#include <benchmark/benchmark.h>

#include <cmath>

#include "moesaic/kernels/context.hpp"

namespace moesaic {

class Operands {
 public:
  Operands() : arena_(host_memory()) {}
  OperatorContext context() { return {host_stream, &arena_}; }

  /// f32 values between -1 and 1, none of them denormal.
  Tensor floats(Extents extents) {
    Tensor tensor = arena_.tensor(DType::f32, extents, Label::activations);
    float* x = tensor.view().data<float>();
    for (std::int64_t i = 0; i < extents.size(); ++i)
      x[i] = static_cast<float>(std::sin(static_cast<double>(i) * 1.7 + 0.3));
    return tensor;
  }

  /// i32 values start, start + step, ... modulo `modulus`.
  Tensor integers(Extents extents, std::int64_t modulus, std::int64_t step = 1) {
    Tensor tensor = arena_.tensor(DType::i32, extents, Label::activations);
    auto* x = tensor.view().data<std::int32_t>();
    for (std::int64_t i = 0; i < extents.size(); ++i) x[i] = static_cast<std::int32_t>(i * step % modulus);
    return tensor;
  }

  /// Offsets of `experts` that share `rows` as evenly as they divide.
  Tensor offsets(std::int64_t experts, std::int64_t rows) {
    Tensor tensor = arena_.tensor(DType::i64, {experts + 1}, Label::activations);
    auto* x = tensor.view().data<std::int64_t>();
    for (std::int64_t e = 0; e <= experts; ++e) x[e] = e * rows / experts;
    return tensor;
  }

 private:
  Arena arena_;
};

inline void report_flops(benchmark::State& state, double flops) {
  state.counters["FLOP/s"] = benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
}
inline void report_bytes(benchmark::State& state, double bytes) {
  state.counters["B/s"] = benchmark::Counter(bytes, benchmark::Counter::kIsIterationInvariantRate);
}

}  // namespace moesaic
