#include "moesaic/kernels/swiglu.hpp"

#include "launch.cuh"
#include "moesaic/tensor/cuda_memory.hpp"
#include "rows.cuh"
#include "swiglu.cuh"

namespace moesaic::cuda {
namespace {

/// Each thread takes `count` neighbours of one row.
template <class T, int count>
__global__ void __launch_bounds__(block_threads)
    forward_kernel(std::uint32_t items, std::uint32_t width, GatedUnit<T> unit, Rows<const T> gate_up, Rows<T> y) {
  const std::uint32_t item = thread_number();
  if (item >= items) return;
  const std::uint32_t per_row = width / count, row = item / per_row, column = item % per_row * count;
  float gate[count], up[count];
  load(gate_up[row] + column, gate);
  load(gate_up[row] + width + column, up);
#pragma unroll
  for (int i = 0; i < count; ++i) gate[i] = unit.value(gate[i], up[i]);
  store(gate, y[row] + column);
}

template <class T, int count>
__global__ void __launch_bounds__(block_threads)
    backward_kernel(std::uint32_t items, std::uint32_t width, GatedUnit<T> unit, Rows<const T> gate_up,
                    Rows<const T> output_gradient, Rows<T> gate_up_gradient) {
  const std::uint32_t item = thread_number();
  if (item >= items) return;
  const std::uint32_t per_row = width / count, row = item / per_row, column = item % per_row * count;
  float gate[count], up[count], gradient[count];
  load(gate_up[row] + column, gate);
  load(gate_up[row] + width + column, up);
  load(output_gradient[row] + column, gradient);
#pragma unroll
  for (int i = 0; i < count; ++i) unit.differentiate(gate[i], up[i], gradient[i], gate[i], up[i]);
  store(gate, gate_up_gradient[row] + column);
  store(up, gate_up_gradient[row] + width + column);
}

/// Both halves of its rows start where 16 bytes can be loaded at once.
bool halves_fit(ConstView view) { return vectors_fit(view) && view.extent(1) / 2 * size_of(view.dtype()) % 16 == 0; }

}  // namespace

void swiglu_forward(const OperatorContext& context, const SwigluOptions& options, ConstView gate_up, View y) {
  MOESAIC_EXPECT(gate_up.extent(0) == y.extent(0) && gate_up.extent(1) == 2 * y.extent(1));
  const std::int64_t width = y.extent(1);
  if (y.size() == 0) return;
  with_vectors("swiglu_forward", y.dtype(), halves_fit(gate_up) && vectors_fit(y),
               [&]<class T, int count>(T, Constant<count>) {
                 const std::int64_t items = y.extent(0) * (width / count);
                 forward_kernel<T, count><<<blocks_for(items), block_threads, 0, cuda_stream(context.stream)>>>(
                     static_cast<std::uint32_t>(items), static_cast<std::uint32_t>(width), gated_unit<T>(options),
                     rows_of<const T>(gate_up), rows_of<T>(y));
               });
  check_cuda(cudaGetLastError(), "the SwiGLU kernel");
}

void swiglu_backward(const OperatorContext& context, const SwigluOptions& options, ConstView gate_up,
                     ConstView output_gradient, View gate_up_gradient) {
  MOESAIC_EXPECT(gate_up.extents() == gate_up_gradient.extents());
  MOESAIC_EXPECT(gate_up.extent(0) == output_gradient.extent(0) && gate_up.extent(1) == 2 * output_gradient.extent(1));
  const std::int64_t width = output_gradient.extent(1);
  if (output_gradient.size() == 0) return;
  const bool vectors = halves_fit(gate_up) && vectors_fit(output_gradient) && halves_fit(gate_up_gradient);
  with_vectors("swiglu_backward", gate_up.dtype(), vectors, [&]<class T, int count>(T, Constant<count>) {
    const std::int64_t items = output_gradient.extent(0) * (width / count);
    backward_kernel<T, count><<<blocks_for(items), block_threads, 0, cuda_stream(context.stream)>>>(
        static_cast<std::uint32_t>(items), static_cast<std::uint32_t>(width), gated_unit<T>(options),
        rows_of<const T>(gate_up), rows_of<const T>(output_gradient), rows_of<T>(gate_up_gradient));
  });
  check_cuda(cudaGetLastError(), "the SwiGLU backward kernel");
}

}  // namespace moesaic::cuda
