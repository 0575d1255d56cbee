#pragma once
/// What the kernels of plain attention share: shape, mask, size of tiles, launch.

#include "attention_tile.cuh"
#include "moesaic/kernels/attention.hpp"
#include "moesaic/tensor/cuda_memory.hpp"
#include "refuse.hpp"

#include <climits>

namespace moesaic::cuda {

/// The shape and mask of one attention, as the kernels see them.
struct AttentionProblem {
  AttentionProblem(const AttentionMask& mask, double factor, const ConstView& q, const ConstView& k, const ConstView& v)
      : batch(static_cast<int>(q.extent(0))), queries(static_cast<int>(q.extent(1))),
        keys(static_cast<int>(k.extent(1))), heads(static_cast<int>(q.extent(2))),
        key_heads(static_cast<int>(k.extent(2))), width(static_cast<int>(q.extent(3))),
        value_width(static_cast<int>(v.extent(3))), scale(static_cast<float>(factor)), causal(mask.causal),
        diagonal(static_cast<int>(mask.offset.value_or(k.extent(1) - q.extent(1)))),
        window(mask.window > 0 && mask.window < INT_MAX / 4 ? static_cast<int>(mask.window) : INT_MAX / 4),
        group(key_heads == 0 ? 0 : heads / key_heads) {
    MOESAIC_EXPECT(k.extent(0) == batch && v.extent(0) == batch && v.extent(1) == keys && v.extent(2) == key_heads);
    MOESAIC_EXPECT(k.extent(3) == width && (key_heads == 0 ? heads == 0 : heads % key_heads == 0));
    if (mask.query_documents.absent()) return;
    query_documents = mask.query_documents.data<std::int32_t>();
    key_documents = mask.key_documents.data<std::int32_t>();
    query_documents_stride = mask.query_documents.stride(0);
    key_documents_stride = mask.key_documents.stride(0);
  }

  __device__ bool visible(int sequence, int query, int key) const {
    const int distance = query + diagonal - key;
    if (query >= queries || key >= keys || (causal && distance < 0) || distance >= window) return false;
    return query_documents == nullptr || query_documents[sequence * query_documents_stride + query] ==
                                             key_documents[sequence * key_documents_stride + key];
  }
  /// The keys that one of the queries [first, last] may see: [begin, end).
  __device__ int keys_begin(int first) const { return max(0, first + diagonal - window + 1); }
  __device__ int keys_end(int last) const { return causal ? min(keys, last + diagonal + 1) : keys; }
  /// The queries that may see one of the keys [first, last]: [begin, end).
  __device__ int queries_begin(int first) const { return causal ? max(0, first - diagonal) : 0; }
  __device__ int queries_end(int last) const { return min(queries, last - diagonal + window); }

  int batch, queries, keys, heads, key_heads, width, value_width;
  float scale;
  bool causal;
  int diagonal, window;
  int group;  ///< query heads a key head
  const std::int32_t* query_documents = nullptr;
  const std::int32_t* key_documents = nullptr;
  std::int64_t query_documents_stride = 0, key_documents_stride = 0;
};

/// Tiles of 16 `count` queries and keys; 16 `columns` and 16 `value_columns` hold the widths of keys and values.
template <int tile_count, int width_columns, int value_width_columns> struct AttentionTile {
  static constexpr int count = tile_count, columns = width_columns, value_columns = value_width_columns;
  static constexpr int side = tile_side * count;
};

/// body(tile): the largest that fits the shared memory and the registers.
template <class Body> void with_attention_tile(const AttentionProblem& p, const Body& body) {
  if (p.width <= 192 && p.value_width <= 128) return body(AttentionTile<4, 12, 8>{});
  expect_at_most("plain attention", "width", p.width, 576);
  expect_at_most("plain attention", "value width", p.value_width, 512);
  body(AttentionTile<1, 36, 32>{});
}

/// Bytes of `keys` tiles as wide as keys, `values` as wide as values, `squares` of scores and `rows` of one float a row.
struct TileMemory {
  int keys, values, squares, rows;

  int bytes(const AttentionProblem& p, int side) const {
    const int row =
        keys * tile_stride(p.width) + values * tile_stride(p.value_width) + squares * tile_stride(side) + rows;
    return side * row * static_cast<int>(sizeof(float));
  }
};

/// One block a tile of `positions`, of `heads`, of each sequence.
template <class Kernel, class... Arguments>
void launch_attention(const OperatorContext& context, Kernel kernel, const TileMemory& memory, int side, int positions,
                      int heads, const AttentionProblem& p, const Arguments&... arguments) {
  const int bytes = memory.bytes(p, side);
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "cudaFuncSetAttribute");
  const dim3 grid(static_cast<unsigned>(ceil_divide(positions, side)), static_cast<unsigned>(heads),
                  static_cast<unsigned>(p.batch));
  kernel<<<grid, block_threads, static_cast<std::size_t>(bytes), cuda_stream(context.stream)>>>(p, arguments...);
  check_cuda(cudaGetLastError(), "a kernel of plain attention");
}

}  // namespace moesaic::cuda
