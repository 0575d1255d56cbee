#include "moesaic/kernels/adamw.hpp"

#include "moesaic/tensor/cuda_memory.hpp"
#include "refuse.hpp"
#include "vector.cuh"

#include <algorithm>
#include <cmath>

namespace moesaic::cuda {
namespace {

constexpr int block_threads = 256;
constexpr std::int64_t max_blocks = 132 * 8;

/// The step's constants, rounded once: p = keep * p - rate * m / (sqrt(v) * inverse_root + eps).
struct Constants {
  float gradient_scale, keep, beta1, one_minus_beta1, beta2, one_minus_beta2, rate, inverse_root, eps;
};

Constants constants_of(const AdamwStep& step) {
  const double correction1 = 1 - std::pow(step.beta1, step.step), correction2 = 1 - std::pow(step.beta2, step.step);
  return {static_cast<float>(step.gradient_scale),
          static_cast<float>(1 - step.lr * step.weight_decay),
          static_cast<float>(step.beta1),
          static_cast<float>(1 - step.beta1),
          static_cast<float>(step.beta2),
          static_cast<float>(1 - step.beta2),
          static_cast<float>(step.lr / correction1),
          static_cast<float>(1 / std::sqrt(correction2)),
          static_cast<float>(step.eps)};
}

__device__ inline void update(const Constants& c, float gradient, float& p, float& m, float& v) {
  const float g = c.gradient_scale * gradient;
  m = c.beta1 * m + c.one_minus_beta1 * g;
  v = c.beta2 * v + c.one_minus_beta2 * g * g;
  p = c.keep * p - c.rate * m / (sqrtf(v) * c.inverse_root + c.eps);
}

/// Reads 4 + 4 + moments, writes 4 + moments (+ 2) bytes an element; each thread takes `count` neighbours at a time.
template <class Moment, int count, bool copies>
__global__ void __launch_bounds__(block_threads)
    adamw_kernel(Constants constants, std::int64_t vectors, const float* gradient, float* parameters,
                 Moment* first_moment, Moment* second_moment, bf16* copy) {
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < vectors; i += step) {
    float g[count], p[count], m[count], v[count];
    load(gradient + i * count, g);
    load(parameters + i * count, p);
    load(first_moment + i * count, m);
    load(second_moment + i * count, v);
#pragma unroll
    for (int j = 0; j < count; ++j) update(constants, g[j], p[j], m[j], v[j]);
    store(p, parameters + i * count);
    store(m, first_moment + i * count);
    store(v, second_moment + i * count);
    if constexpr (copies) store(p, copy + i * count);
  }
}

template <class Moment> struct Arrays {
  const float* gradient;
  float* parameters;
  Moment* first_moment;
  Moment* second_moment;
  bf16* copy;  ///< or null

  Arrays from(std::int64_t element) const {
    return {gradient + element, parameters + element, first_moment + element, second_moment + element,
            copy ? copy + element : nullptr};
  }
  bool vectors_fit(int count) const {
    return aligned(gradient, 4 * count) && aligned(parameters, 4 * count) &&
           aligned(first_moment, sizeof(Moment) * count) && aligned(second_moment, sizeof(Moment) * count) &&
           aligned(copy, sizeof(bf16) * count);
  }
};

template <int count, class Moment>
void launch(cudaStream_t stream, const Constants& constants, std::int64_t vectors, const Arrays<Moment>& arrays) {
  if (vectors == 0) return;
  const auto blocks = static_cast<unsigned>(std::min(max_blocks, ceil_divide(vectors, block_threads)));
  const auto kernel = arrays.copy ? adamw_kernel<Moment, count, true> : adamw_kernel<Moment, count, false>;
  kernel<<<blocks, block_threads, 0, stream>>>(constants, vectors, arrays.gradient, arrays.parameters,
                                               arrays.first_moment, arrays.second_moment, arrays.copy);
  check_cuda(cudaGetLastError(), "the AdamW kernel");
}

/// Vectors of 4 where the memory allows, then what is left one by one.
template <class Moment>
void run(cudaStream_t stream, const Constants& constants, std::int64_t size, const Arrays<Moment>& arrays) {
  const std::int64_t vectors = arrays.vectors_fit(4) ? size / 4 : 0;
  launch<4>(stream, constants, vectors, arrays);
  launch<1>(stream, constants, size - 4 * vectors, arrays.from(4 * vectors));
}

}  // namespace

void adamw(const OperatorContext& context, const AdamwStep& step, ConstView gradient, View parameters,
           View first_moment, View second_moment, View copy) {
  MOESAIC_EXPECT(gradient.size() == parameters.size() && first_moment.dtype() == second_moment.dtype());
  MOESAIC_EXPECT(copy.absent() || copy.size() == parameters.size());
  const auto with_moments = [&]<class Moment>(Moment) {
    run(cuda_stream(context.stream), constants_of(step), parameters.size(),
        Arrays<Moment>{gradient.data<float>(), parameters.data<float>(), first_moment.data<Moment>(),
                       second_moment.data<Moment>(), copy.absent() ? nullptr : copy.data<bf16>()});
  };
  const bool floats = gradient.dtype() == DType::f32 && parameters.dtype() == DType::f32;
  if (floats && first_moment.dtype() == DType::f32) return with_moments(float{});
  if (floats && first_moment.dtype() == DType::bf16) return with_moments(bf16{});
  refuse_types("adamw", parameters.dtype(), first_moment.dtype(), "f32 parameters with f32 or bf16 moments");
}

}  // namespace moesaic::cuda
