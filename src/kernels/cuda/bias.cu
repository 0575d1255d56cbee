#include "moesaic/kernels/bias.hpp"

#include "column_sums.cuh"
#include "launch.cuh"
#include "moesaic/tensor/cuda_memory.hpp"
#include "offsets.cuh"
#include "rows.cuh"

#include <algorithm>

namespace moesaic::cuda {
namespace {

/// The group of each row: offsets (absent: all rows are group 0).
struct Groups {
  const std::int64_t* offsets;
  std::uint32_t count;

  __device__ std::uint32_t of(std::uint32_t row) const {
    return offsets == nullptr ? 0 : group_of(offsets, count, row);
  }
  __device__ std::uint32_t begin(std::uint32_t group) const {
    return offsets == nullptr ? 0 : static_cast<std::uint32_t>(offsets[group]);
  }
  __device__ std::uint32_t end(std::uint32_t group, std::uint32_t rows) const {
    return offsets == nullptr ? rows : static_cast<std::uint32_t>(offsets[group + 1]);
  }
};

Groups groups_of(ConstView offsets, std::int64_t count) {
  MOESAIC_EXPECT(offsets.absent() ? count == 1 : offsets.size() == count + 1);
  return {offsets.absent() ? nullptr : offsets.data<std::int64_t>(), static_cast<std::uint32_t>(count)};
}

/// One warp a row.
template <class T, int count>
__global__ void __launch_bounds__(block_threads)
    add_bias_kernel(std::uint32_t num_rows, int width, Groups groups, Rows<const T> bias, Rows<T> rows) {
  const std::uint32_t row = warp_number();
  if (row >= num_rows) return;
  const std::uint32_t group = groups.of(row);
  if (group >= groups.count) return;
  float values[count], added[count];
  for (int c = lane_number() * count; c < width; c += warp_lanes * count) {
    load(rows[row] + c, values);
    load(bias[group] + c, added);
#pragma unroll
    for (int i = 0; i < count; ++i) values[i] += added[i];
    store(values, rows[row] + c);
  }
}

/// partials [splits, groups, width]: column sums of one of gridDim.z equal parts of the rows of group blockIdx.y.
template <class T, int count>
__global__ void __launch_bounds__(tile_lanes* tile_depth)
    partial_gradient_kernel(std::uint32_t num_rows, int width, Groups groups, Rows<const T> rows, float* partials) {
  const int c = static_cast<int>(blockIdx.x * tile_lanes + threadIdx.x) * count;
  const std::uint32_t group = blockIdx.y, first = groups.begin(group), last = groups.end(group, num_rows);
  const std::uint32_t part = (last - first + gridDim.z - 1) / gridDim.z;
  const std::uint32_t begin = min(last, first + blockIdx.z * part), end = min(last, begin + part);
  float values[count], sums[count] = {};
  for (std::uint32_t row = begin + threadIdx.y; c < width && row < end; row += tile_depth) {
    load(rows[row] + c, values);
#pragma unroll
    for (int i = 0; i < count; ++i) sums[i] += values[i];
  }
  sum_over_tile(sums);
  if (threadIdx.y != 0 || c >= width) return;
  store(sums, partials + (std::int64_t{blockIdx.z} * gridDim.y + group) * width + c);
}

__global__ void __launch_bounds__(tile_lanes* tile_depth)
    add_parts_kernel(int parts, std::int64_t size, std::int64_t width, std::int64_t gradient_stride,
                     const float* partials, float* gradient) {
  const std::int64_t i = std::int64_t{blockIdx.x} * tile_lanes + threadIdx.x;
  const float sum = sum_of_chunks(parts, size, i, partials);
  if (threadIdx.y == 0 && i < size) gradient[i / width * gradient_stride + i % width] += sum;
}

/// Parts that each group's rows are cut into: enough blocks to fill the device. Depends on the shapes alone.
unsigned parts_of(std::int64_t rows, std::int64_t blocks) {
  return static_cast<unsigned>(std::clamp<std::int64_t>(std::min(1024 / blocks, ceil_divide(rows, 64)), 1, 64));
}

}  // namespace

void add_bias(const OperatorContext& context, ConstView bias, ConstView offsets, View rows) {
  const std::int64_t num_rows = rows.extent(0), width = rows.extent(1);
  MOESAIC_EXPECT(bias.extent(1) == width);
  if (rows.size() == 0) return;
  const Groups groups = groups_of(offsets, bias.extent(0));
  with_vectors(
      "add_bias", rows.dtype(), vectors_fit(bias) && vectors_fit(rows), [&]<class T, int count>(T, Constant<count>) {
        add_bias_kernel<T, count><<<blocks_for(num_rows, block_warps), block_threads, 0, cuda_stream(context.stream)>>>(
            static_cast<std::uint32_t>(num_rows), static_cast<int>(width), groups, rows_of<const T>(bias),
            rows_of<T>(rows));
      });
  check_cuda(cudaGetLastError(), "the bias kernel");
}

void bias_gradient(const OperatorContext& context, ConstView rows_gradient, ConstView offsets, View bias_gradient) {
  const std::int64_t num_rows = rows_gradient.extent(0), width = rows_gradient.extent(1);
  const std::int64_t num_groups = bias_gradient.extent(0), size = num_groups * width;
  MOESAIC_EXPECT(bias_gradient.extent(1) == width);
  if (rows_gradient.size() == 0 || size == 0) return;
  const Groups groups = groups_of(offsets, num_groups);
  const cudaStream_t stream = cuda_stream(context.stream);
  const dim3 tile(tile_lanes, tile_depth);
  with_vectors("bias_gradient", rows_gradient.dtype(), vectors_fit(rows_gradient),
               [&]<class T, int count>(T, Constant<count>) {
                 const std::int64_t columns = ceil_divide(width, tile_lanes * count);
                 const unsigned parts = parts_of(num_rows, columns * num_groups);
                 const Tensor partials = context.arena->tensor(DType::f32, {parts, size}, Label::workspace);
                 auto* sums = partials.view().data<float>();
                 const dim3 grid(static_cast<unsigned>(columns), static_cast<unsigned>(num_groups), parts);
                 partial_gradient_kernel<T, count><<<grid, tile, 0, stream>>>(static_cast<std::uint32_t>(num_rows),
                                                                              static_cast<int>(width), groups,
                                                                              rows_of<const T>(rows_gradient), sums);
                 check_cuda(cudaGetLastError(), "the bias gradient kernel");
                 add_parts_kernel<<<blocks_for(size, tile_lanes), tile, 0, stream>>>(
                     static_cast<int>(parts), size, width, bias_gradient.stride(0), sums, bias_gradient.data<float>());
                 check_cuda(cudaGetLastError(), "the bias partial sums kernel");
               });
}

}  // namespace moesaic::cuda
