#include "moesaic/kernels/fill_normal.hpp"

#include "launch.cuh"
#include "moesaic/tensor/cuda_memory.hpp"

#include <algorithm>

namespace moesaic::cuda {
namespace {

constexpr std::int64_t max_blocks = 132 * 8;

/// Philox4x32-10 as base/random.hpp has it, its third counter word that of normals.
__device__ uint4 philox_of_normals(std::uint64_t key, std::uint64_t group) {
  uint4 counter{static_cast<std::uint32_t>(group), static_cast<std::uint32_t>(group >> 32), 1, 0};
  uint2 words{static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)};
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const std::uint32_t even = __umulhi(0xd2511f53u, counter.x), odd = __umulhi(0xcd9e8d57u, counter.z);
    counter = {odd ^ counter.y ^ words.x, 0xcd9e8d57u * counter.z, even ^ counter.w ^ words.y, 0xd2511f53u * counter.x};
    words.x += 0x9e3779b9u;
    words.y += 0xbb67ae85u;
  }
  return counter;
}

__device__ double inside_unit(std::uint32_t word) { return (word + 0.5) * 0x1p-32; }

/// Two normals by Box and Muller.
__device__ double2 two_normals(std::uint32_t first, std::uint32_t second) {
  double sine, cosine;
  sincospi(2.0 * inside_unit(second), &sine, &cosine);
  const double radius = sqrt(-2.0 * log(inside_unit(first)));
  return {radius * cosine, radius * sine};
}

/// A thread makes the four elements of a group that lie within [first, first + size).
__global__ void __launch_bounds__(block_threads)
    fill_normal_kernel(std::uint64_t key, std::int64_t first, std::int64_t size, double stddev, float* values) {
  const std::int64_t begin = first / 4, end = (first + size + 3) / 4;
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t group = begin + std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; group < end; group += step) {
    const uint4 words = philox_of_normals(key, static_cast<std::uint64_t>(group));
    const double2 early = two_normals(words.x, words.y), late = two_normals(words.z, words.w);
    const double normals[4] = {early.x, early.y, late.x, late.y};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::int64_t at = 4 * group + i - first;
      if (at >= 0 && at < size) values[at] = static_cast<float>(stddev * static_cast<float>(normals[i]));
    }
  }
}

}  // namespace

void fill_normal(const OperatorContext& context, std::uint64_t key, std::int64_t first, double stddev, View values) {
  MOESAIC_EXPECT(values.contiguous());
  if (values.size() == 0) return;
  const std::int64_t groups = values.size() / 4 + 2;
  const auto blocks = static_cast<unsigned>(std::min(max_blocks, ceil_divide(groups, block_threads)));
  fill_normal_kernel<<<blocks, block_threads, 0, cuda_stream(context.stream)>>>(key, first, values.size(), stddev,
                                                                                values.data<float>());
  check_cuda(cudaGetLastError(), "fill_normal");
}

}  // namespace moesaic::cuda
