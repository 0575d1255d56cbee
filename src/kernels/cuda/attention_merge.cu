#include "moesaic/kernels/attention_merge.hpp"

#include "attention_rows.cuh"
#include "launch.cuh"
#include "moesaic/tensor/cuda_memory.hpp"
#include "rows.cuh"

namespace moesaic::cuda {
namespace {

/// What two partial results count for in their sum.
struct Shares {
  float log_sum_exp, old_share, new_share;
};

__device__ Shares shares_of(float old_log, float new_log) {
  if (old_log == -INFINITY && new_log == -INFINITY) return {-INFINITY, 0, 0};
  const float largest = fmaxf(old_log, new_log);
  const float sum = largest + logf(expf(old_log - largest) + expf(new_log - largest));
  return {sum, expf(old_log - sum), expf(new_log - sum)};
}

/// One warp a query and head.
template <class T>
__global__ void __launch_bounds__(block_threads)
    merge_kernel(std::uint32_t rows, std::uint32_t queries, std::uint32_t heads, int width, HeadRows<const T> more,
                 HeadRows<const float> more_log_sum_exp, HeadRows<float> out, HeadRows<float> log_sum_exp) {
  if (warp_number() >= rows) return;
  const HeadRow row = HeadRow::of(warp_number(), queries, heads);
  const Shares shares = shares_of(*row.in(log_sum_exp), *row.in(more_log_sum_exp));
  __syncwarp();
  if (lane_number() == 0) *row.in(log_sum_exp) = shares.log_sum_exp;
  const T* from = row.in(more);
  float* to = row.in(out);
  for (int c = lane_number(); c < width; c += warp_lanes) {
    // Where nothing was merged yet out may hold anything.
    const float old = shares.old_share == 0 ? 0.0f : shares.old_share * to[c];
    to[c] = old + (shares.new_share == 0 ? 0.0f : shares.new_share * widen(from[c]));
  }
}

}  // namespace

void attention_merge(const OperatorContext& context, ConstView more, ConstView more_log_sum_exp, View out,
                     View log_sum_exp) {
  MOESAIC_EXPECT(more.extents() == out.extents() && more_log_sum_exp.extents() == log_sum_exp.extents());
  const std::int64_t queries = out.extent(1), heads = out.extent(2), rows = out.extent(0) * queries * heads;
  if (rows == 0) return;
  with_storage("attention_merge", more.dtype(), [&]<class T>(T) {
    merge_kernel<T><<<blocks_for(rows, block_warps), block_threads, 0, cuda_stream(context.stream)>>>(
        static_cast<std::uint32_t>(rows), static_cast<std::uint32_t>(queries), static_cast<std::uint32_t>(heads),
        static_cast<int>(out.extent(3)), head_rows<const T>(more), head_values<const float>(more_log_sum_exp),
        head_rows<float>(out), head_values<float>(log_sum_exp));
  });
  check_cuda(cudaGetLastError(), "the attention merge kernel");
}

}  // namespace moesaic::cuda
