#pragma once
/// What the forward and backward of flash attention share: sizes of tiles, documents of tiles, memory, launch.

#include "attention_mma.cuh"
#include "attention_problem.cuh"
#include "rows.cuh"

namespace moesaic::cuda {

/// A block of four warps owns so many queries (or keys), a square's rows a warp.
inline constexpr int flash_side = 64;
inline constexpr int flash_threads = flash_side / square_side * warp_lanes;

/// First of the rows of a block that this warp owns.
__device__ inline int own_row() { return static_cast<int>(threadIdx.x) / warp_lanes * square_side; }

template <int key_width, int width_of_values> struct FlashWidths {
  static constexpr int width = key_width, value_width = width_of_values, both = width + value_width;
  /// Keys (or queries) fetched at once, two of which fit the shared memory.
  static constexpr int step = both <= 256 ? 64 : 32;
};

/// body(widths) if there are kernels for these; false if not.
template <class Body> bool with_flash_widths(const AttentionProblem& p, const Body& body) {
  if (p.width == 64 && p.value_width == 64) return body(FlashWidths<64, 64>{}), true;
  if (p.width == 128 && p.value_width == 128) return body(FlashWidths<128, 128>{}), true;
  if (p.width == 192 && p.value_width == 128) return body(FlashWidths<192, 128>{}), true;
  return false;
}

/// Rows are read and written 16 bytes at a time.
inline bool can_be_flashs(std::initializer_list<ConstView> tensors) {
  for (const ConstView& view : tensors)
    if (view.dtype() != DType::bf16 || view.size() == 0 || !vectors_fit(view)) return false;
  return true;
}

/// Smallest and largest document of each tile of flash_side positions: [batch, tiles] of queries and of keys. Where
/// there are any, steps begin at multiples of their length.
struct TileDocuments {
  const int2* of_queries = nullptr;
  const int2* of_keys = nullptr;
  int query_tiles = 0, key_tiles = 0;

  __device__ bool given() const { return of_queries != nullptr; }
  __device__ int2 at_query(int sequence, int query) const {
    return of_queries[sequence * query_tiles + query / flash_side];
  }
  __device__ int2 at_key(int sequence, int key) const { return of_keys[sequence * key_tiles + key / flash_side]; }
  /// No document is in both tiles.
  __device__ bool apart(int sequence, int query, int key) const {
    if (!given()) return false;
    const int2 a = at_query(sequence, query), b = at_key(sequence, key);
    return a.x > b.y || b.x > a.y;
  }
  /// Both tiles lie in one and the same document.
  __device__ bool one(int sequence, int query, int key) const {
    if (!given()) return true;
    const int2 a = at_query(sequence, query), b = at_key(sequence, key);
    return a.x == a.y && b.x == b.y && a.x == b.x;
  }
  __device__ int aligned(int begin) const { return given() ? begin / flash_side * flash_side : begin; }
};

/// The ranges, in memory of the arena as long as this lives.
class TileDocumentsMemory {
 public:
  TileDocumentsMemory(const OperatorContext& context, const AttentionProblem& p);
  TileDocuments get() const { return documents_; }

 private:
  TileDocuments documents_;
  Tensor memory_;
};

/// Positions [begin, end).
struct Span {
  int begin, end;

  __device__ bool has(int position) const { return position >= begin && position < end; }
  __device__ bool meets(int first, int count) const { return first + count > begin && first < end; }
  __device__ bool covers(int first, int count) const { return first >= begin && first + count <= end; }
};

/// Which keys the queries of a warp see, or which queries see its keys. Rows past the end may see anything.
struct RowMask {
  Span any, all;               ///< seen by any, by all of the warp's rows, documents apart
  Span seen[2];                ///< by this lane's two rows, likewise
  int documents[2] = {};       ///< theirs
  const std::int32_t* others;  ///< the documents of the positions seen; null: one document

  __device__ static RowMask of_queries(const AttentionProblem& p, int sequence, int own) {
    const auto seen = [&](int first, int last) { return Span{p.keys_begin(first), p.keys_end(last)}; };
    RowMask mask = of(own, seen);
    if (p.query_documents == nullptr) return mask;
    mask.others = p.key_documents + sequence * p.key_documents_stride;
    mask.load_documents(p.query_documents + sequence * p.query_documents_stride, own, p.queries);
    return mask;
  }
  __device__ static RowMask of_keys(const AttentionProblem& p, int sequence, int own) {
    const auto seen = [&](int first, int last) { return Span{p.queries_begin(first), p.queries_end(last)}; };
    RowMask mask = of(own, seen);
    if (p.query_documents == nullptr) return mask;
    mask.others = p.query_documents + sequence * p.query_documents_stride;
    mask.load_documents(p.key_documents + sequence * p.key_documents_stride, own, p.keys);
    return mask;
  }

  /// Sets the values of a square whose columns are positions from `at` on to `hidden` where a row does not see them.
  __device__ void hide(int at, bool one_document, float hidden, Square& square) const {
    for_values([&](int j, int c) {
      const int position = at + Square::column(j, c);
      const bool visible = position >= seen[c / 2].begin & position < seen[c / 2].end;  // both: no branch
      square.values[j][c] = visible ? square.values[j][c] : hidden;
    });
    if (one_document) return;
    for_values([&](int j, int c) {
      const int position = at + Square::column(j, c);
      if (seen[c / 2].has(position) && others[position] != documents[c / 2]) square.values[j][c] = hidden;
    });
  }

 private:
  template <class Seen> __device__ static RowMask of(int own, const Seen& seen) {
    const int last = own + square_side - 1, rows[2] = {own + Square::row(0), own + Square::row(2)};
    // What the first and the last row see, all between see.
    const Span all = {seen(last, last).begin, seen(own, own).end};
    return {seen(own, last), all, {seen(rows[0], rows[0]), seen(rows[1], rows[1])}, {}, nullptr};
  }
  __device__ void load_documents(const std::int32_t* own_documents, int own, int end) {
#pragma unroll
    for (int r = 0; r < 2; ++r) documents[r] = own_documents[min(own + Square::row(2 * r), end - 1)];
  }
};

/// Hands out the block's shared memory.
class SharedMemory {
 public:
  __device__ explicit SharedMemory(uint4* memory) : next_(memory) {}
  template <int width> __device__ SwizzledTile<width> rows(int count) {
    return {pieces(count * SwizzledTile<width>::pieces)};
  }
  __device__ uint4* pieces(int count) {
    uint4* data = next_;
    next_ += count;
    return data;
  }

 private:
  uint4* next_;
};

/// A block's tile of queries of one head, and the steps of keys that it sees.
template <class Widths> struct QueryTile {
  int first, own;  ///< of the block's queries, and of this warp's
  int head, sequence;
  HeadPlace place, key_place;
  int end;  ///< of the keys seen

  // The last queries see most keys: they go first, so that blocks end together.
  __device__ explicit QueryTile(const AttentionProblem& p)
      : first(static_cast<int>(gridDim.x - 1 - blockIdx.x) * flash_side), own(first + own_row()),
        head(static_cast<int>(blockIdx.y)),
        sequence(static_cast<int>(blockIdx.z)), place{sequence, head}, key_place{sequence, head / p.group},
        end(p.keys_end(min(p.queries, first + flash_side) - 1)) {}

  __device__ int first_key(const AttentionProblem& p, const TileDocuments& documents) const {
    return seen_from(documents.aligned(p.keys_begin(first)), documents);
  }
  /// `key`, or the first of the steps behind it with a document of the tile.
  __device__ int seen_from(int key, const TileDocuments& documents) const {
    while (key < end && documents.apart(sequence, first, key)) key += Widths::step;
    return key;
  }
  /// Starts copies of the step of keys and values from `key` on to `stage` of their tiles.
  template <class Inputs, class KeyTile, class ValueTile>
  __device__ void fetch(const Inputs& in, const AttentionProblem& p, int key, int stage, KeyTile keys,
                        ValueTile values) const {
    constexpr int step = Widths::step;
    fetch_rows<step, flash_threads>(in.k, key_place, key, p.keys, keys, stage * step);
    fetch_rows<step, flash_threads>(in.v, key_place, key, p.keys, values, stage * step);
  }
};

/// One block for flash_side of `positions`, of `heads`, of each sequence.
template <class Kernel, class... Arguments>
void launch_flash(const OperatorContext& context, Kernel kernel, int bytes, int positions, int heads,
                  const AttentionProblem& p, const Arguments&... arguments) {
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "cudaFuncSetAttribute");
  const dim3 grid(static_cast<unsigned>(ceil_divide(positions, flash_side)), static_cast<unsigned>(heads),
                  static_cast<unsigned>(p.batch));
  kernel<<<grid, flash_threads, static_cast<std::size_t>(bytes), cuda_stream(context.stream)>>>(p, arguments...);
  check_cuda(cudaGetLastError(), "a kernel of flash attention");
}

}  // namespace moesaic::cuda
