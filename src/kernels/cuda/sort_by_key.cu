#include "launch.cuh"
#include "moesaic/kernels/permutation.hpp"
#include "moesaic/tensor/cuda_memory.hpp"
#include "refuse.hpp"

#include <algorithm>

namespace moesaic::cuda {
namespace {

/// Entries that one warp sorts on its own; the chunks' counts of each key then say where each chunk's entries go.
constexpr int chunk_entries = 512;
/// A warp counts them in 48 KiB of shared memory.
constexpr std::int64_t most_keys = 12288;

/// The entries of keys [tokens, columns], in row-major order.
struct Keys {
  const std::int32_t* data;
  std::int64_t stride;
  std::uint32_t columns, entries;

  __device__ int operator[](std::uint32_t entry) const {
    return data[std::int64_t{entry / columns} * stride + entry % columns];
  }
};

__device__ void clear(int* counts, int num_keys) {
  for (int key = lane_number(); key < num_keys; key += warp_lanes) counts[key] = 0;
  __syncwarp();
}

/// counts [num_keys, chunks]: how often each key occurs in chunk blockIdx.x.
__global__ void __launch_bounds__(warp_lanes) count_kernel(Keys keys, int num_keys, int* counts) {
  extern __shared__ int own[];
  clear(own, num_keys);
  const std::uint32_t begin = blockIdx.x * chunk_entries, end = min(keys.entries, begin + chunk_entries);
  for (std::uint32_t entry = begin + threadIdx.x; entry < end; entry += warp_lanes) {
    const int key = keys[entry];
    if (key >= 0) atomicAdd(own + key, 1);
  }
  __syncwarp();
  for (int key = lane_number(); key < num_keys; key += warp_lanes) {
    counts[std::int64_t{key} * gridDim.x + blockIdx.x] = own[key];
  }
}

/// Sum over the lanes before this one, added to `carry`, which becomes the sum over all.
__device__ int exclusive_sum(int value, int& carry) {
  int inclusive = value;
#pragma unroll
  for (int distance = 1; distance < warp_lanes; distance *= 2) {
    const int below = __shfl_up_sync(~0u, inclusive, distance);
    if (lane_number() >= distance) inclusive += below;
  }
  const int before = carry + inclusive - value;
  carry += __shfl_sync(~0u, inclusive, warp_lanes - 1);
  return before;
}

/// In place, one warp a key: counts [num_keys, chunks] become sums over earlier chunks; totals [num_keys] over all.
__global__ void __launch_bounds__(block_threads) sum_chunks_kernel(int num_keys, int chunks, int* counts, int* totals) {
  const auto key = static_cast<int>(warp_number());
  if (key >= num_keys) return;
  int* row = counts + std::int64_t{key} * chunks;
  int carry = 0;
  for (int begin = 0; begin < chunks; begin += warp_lanes) {
    const int chunk = begin + lane_number();
    const int before = exclusive_sum(chunk < chunks ? row[chunk] : 0, carry);
    if (chunk < chunks) row[chunk] = before;
  }
  if (lane_number() == 0) totals[key] = carry;
}

/// next [num_keys] (shared) = the slot of this chunk's first entry of each key. Chunk 0 writes offsets.
__device__ void start_slots(int num_keys, const int* counts, const int* totals, int* next, std::int64_t* offsets) {
  int carry = 0;
  for (int begin = 0; begin < num_keys; begin += warp_lanes) {
    const int key = begin + lane_number();
    const int first = exclusive_sum(key < num_keys ? totals[key] : 0, carry);
    if (key >= num_keys) continue;
    if (blockIdx.x == 0) offsets[key] = first;
    next[key] = first + counts[std::int64_t{key} * gridDim.x + blockIdx.x];
  }
  if (blockIdx.x == 0 && lane_number() == 0) offsets[num_keys] = carry;
  __syncwarp();
}

/// The slots of 32 neighbouring entries: lanes of one key follow each other in lane order.
__device__ int take_slots(int key, int* next) {
  const unsigned same = __match_any_sync(~0u, key), below = same & ((1u << lane_number()) - 1);
  const int slot = key < 0 ? -1 : next[key] + __popc(below);
  __syncwarp();
  if (key >= 0 && below == 0) next[key] += __popc(same);
  __syncwarp();
  return slot;
}

__global__ void __launch_bounds__(warp_lanes)
    place_kernel(Keys keys, int num_keys, const int* counts, const int* totals, std::int64_t* offsets,
                 std::int32_t* slot_token, std::int32_t* token_slot, std::int64_t token_slot_stride) {
  extern __shared__ int next[];
  start_slots(num_keys, counts, totals, next, offsets);
  const std::uint32_t begin = blockIdx.x * chunk_entries, end = min(keys.entries, begin + chunk_entries);
  for (std::uint32_t first = begin; first < end; first += warp_lanes) {
    const std::uint32_t entry = first + threadIdx.x;
    const int slot = take_slots(entry < end ? keys[entry] : -1, next);
    if (entry >= end) continue;
    const std::uint32_t token = entry / keys.columns;
    token_slot[token * token_slot_stride + entry % keys.columns] = slot;
    if (slot >= 0) slot_token[slot] = static_cast<std::int32_t>(token);
  }
}

}  // namespace

void sort_by_key(const OperatorContext& context, ConstView keys, View offsets, View slot_token, View token_slot) {
  const std::int64_t num_keys = offsets.extent(0) - 1;
  const std::int64_t chunks = std::max<std::int64_t>(1, ceil_divide(keys.size(), chunk_entries));
  MOESAIC_EXPECT(keys.size() < std::int64_t{1} << 31 && num_keys >= 0);
  expect_at_most("sort_by_key", "keys", num_keys, most_keys);
  const Tensor counts = context.arena->tensor(DType::i32, {num_keys, chunks}, Label::workspace);
  const Tensor totals = context.arena->tensor(DType::i32, {num_keys}, Label::workspace);
  auto* chunk_counts = counts.view().data<std::int32_t>();
  auto* key_totals = totals.view().data<std::int32_t>();
  const Keys entries{keys.data<std::int32_t>(), keys.stride(0), static_cast<std::uint32_t>(keys.extent(1)),
                     static_cast<std::uint32_t>(keys.size())};
  const auto blocks = static_cast<unsigned>(chunks);
  const int key_count = static_cast<int>(num_keys), bytes = key_count * static_cast<int>(sizeof(int));
  const cudaStream_t stream = cuda_stream(context.stream);
  count_kernel<<<blocks, warp_lanes, bytes, stream>>>(entries, key_count, chunk_counts);
  check_cuda(cudaGetLastError(), "the sort's counting kernel");
  sum_chunks_kernel<<<blocks_for(num_keys, block_warps), block_threads, 0, stream>>>(
      key_count, static_cast<int>(chunks), chunk_counts, key_totals);
  check_cuda(cudaGetLastError(), "the sort's prefix sum kernel");
  place_kernel<<<blocks, warp_lanes, bytes, stream>>>(entries, key_count, chunk_counts, key_totals,
                                                      offsets.data<std::int64_t>(), slot_token.data<std::int32_t>(),
                                                      token_slot.data<std::int32_t>(), token_slot.stride(0));
  check_cuda(cudaGetLastError(), "the sort's placing kernel");
}

}  // namespace moesaic::cuda
