#include "attention_flash.cuh"
#include "attention_variants.hpp"

namespace moesaic::cuda {
namespace {

struct Inputs {
  InputRows q, k, v;
};

/// The running maximum (in powers of two) and sum of exponentials of this lane's two rows; sums are this lane's share.
struct Softmax {
  float largest[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};

  /// Turns scores into exponentials relative to the new maximum; corrections are what earlier sums are to be
  /// multiplied by.
  template <int count> __device__ void add(Square (&scores)[count], float (&corrections)[2]) {
    float maximum[2] = {largest[0], largest[1]}, shift[2];
#pragma unroll
    for (int s = 0; s < count; ++s)
      for_values([&](int j, int c) { maximum[c / 2] = fmaxf(maximum[c / 2], scores[s].values[j][c]); });
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      maximum[r] = warp_max<4>(maximum[r]);
      // Where nothing is visible yet all scores are -inf: any finite shift makes their exponentials 0.
      shift[r] = maximum[r] == -INFINITY ? 0.0f : maximum[r];
      corrections[r] = exp2_fast(largest[r] - shift[r]);
      largest[r] = maximum[r];
      sum[r] *= corrections[r];
    }
#pragma unroll
    for (int s = 0; s < count; ++s) {
      for_values([&](int j, int c) {
        sum[c / 2] += scores[s].values[j][c] = exp2_fast(scores[s].values[j][c] - shift[c / 2]);
      });
    }
  }
};

/// One block a tile of queries of one head.
template <class Widths>
__global__ void __launch_bounds__(flash_threads, Widths::both <= 128 ? 4 : 2)
    flash_forward_kernel(AttentionProblem p, Inputs in, TileDocuments documents, OutputRows out, float* log_sum_exp) {
  constexpr int width = Widths::width, value_width = Widths::value_width, step = Widths::step;
  constexpr int squares = step / square_side;
  extern __shared__ uint4 memory[];
  SharedMemory shared(memory);
  // The output leaves through the queries' rows.
  const auto q_tile = shared.rows<width>(flash_side);
  const auto k_tile = shared.rows<width>(2 * step);
  const auto v_tile = shared.rows<value_width>(2 * step);
  const QueryTile<Widths> tile(p);
  const auto fetch = [&](int key, int stage) { tile.fetch(in, p, key, stage, k_tile, v_tile); };
  fetch_rows<flash_side, flash_threads>(in.q, tile.place, tile.first, p.queries, q_tile);
  hopper::commit_copies();
  int key = tile.first_key(p, documents), stage = 0;
  if (key < tile.end) fetch(key, stage);
  hopper::commit_copies();
  hopper::wait_for_copies<1>();
  __syncthreads();
  const LeftRows<width, true> q_rows(q_tile, own_row());
  const RowMask mask = RowMask::of_queries(p, tile.sequence, tile.own);
  const float scale = p.scale * log2_e;
  Softmax softmax;
  Square sums[value_width / square_side] = {};
  // While one step of keys is worked on, the next is under way.
  for (; key < tile.end; stage ^= 1) {
    const int following = tile.seen_from(key + step, documents);
    hopper::wait_for_copies<0>();
    __syncthreads();
    if (following < tile.end) fetch(following, stage ^ 1);
    hopper::commit_copies();
    if (mask.any.meets(key, step)) {
      const bool one_document = documents.one(tile.sequence, tile.first, key);
      Square scores[squares];
#pragma unroll
      for (int s = 0; s < squares; ++s) {
        const int at = key + s * square_side;
        if (!mask.any.meets(at, square_side)) {
          for_values([&](int j, int c) { scores[s].values[j][c] = -INFINITY; });
          continue;
        }
        scores[s] = inner_products(q_rows, k_tile, stage * step + s * square_side);
        for_values([&](int j, int c) { scores[s].values[j][c] *= scale; });
        if (one_document && mask.all.covers(at, square_side)) continue;
        mask.hide(at, one_document, -INFINITY, scores[s]);
      }
      float corrections[2];
      softmax.add(scores, corrections);
#pragma unroll
      for (Square& square : sums) for_values([&](int j, int c) { square.values[j][c] *= corrections[c / 2]; });
#pragma unroll
      for (int s = 0; s < squares; ++s)
        if (mask.any.meets(key + s * square_side, square_side))
          add_weighted_rows(left_of(scores[s]), v_tile, stage * step + s * square_side, sums);
    }
    key = following;
  }
  float inverse[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float sum = warp_sum<4>(softmax.sum[r]);
    inverse[r] = sum > 0 ? 1 / sum : 0.0f;
    const int query = tile.own + Square::row(2 * r);
    if (lane_number() % 4 != 0 || query >= p.queries) continue;
    log_sum_exp[(std::int64_t{tile.sequence} * p.heads + tile.head) * p.queries + query] =
        softmax.largest[r] / log2_e + logf(sum);
  }
  store_sums(sums, inverse, SwizzledTile<value_width>{q_tile.data + own_row() * SwizzledTile<width>::pieces}, 0, out,
             tile.place, tile.own, p.queries);
}

/// One warp a tile.
__global__ void __launch_bounds__(block_threads)
    document_ranges_kernel(const std::int32_t* documents, std::int64_t stride, int length, int tiles, int2* ranges) {
  const int tile = static_cast<int>(warp_number());
  if (tile >= tiles) return;
  int smallest = INT_MAX, largest = INT_MIN;
  for (int i = lane_number(); i < flash_side && tile * flash_side + i < length; i += warp_lanes) {
    const std::int32_t document = documents[blockIdx.y * stride + tile * flash_side + i];
    smallest = min(smallest, document);
    largest = max(largest, document);
  }
  smallest = __reduce_min_sync(~0u, smallest);
  largest = __reduce_max_sync(~0u, largest);
  if (lane_number() == 0) ranges[blockIdx.y * static_cast<unsigned>(tiles) + tile] = {smallest, largest};
}

void find_ranges(const OperatorContext& context, const AttentionProblem& p, const std::int32_t* documents,
                 std::int64_t stride, int length, int tiles, int2* ranges) {
  const dim3 grid(blocks_for(tiles, block_warps), static_cast<unsigned>(p.batch));
  document_ranges_kernel<<<grid, block_threads, 0, cuda_stream(context.stream)>>>(documents, stride, length, tiles,
                                                                                  ranges);
  check_cuda(cudaGetLastError(), "the kernel of documents' ranges");
}

}  // namespace

TileDocumentsMemory::TileDocumentsMemory(const OperatorContext& context, const AttentionProblem& p) {
  if (p.query_documents == nullptr) return;
  const int query_tiles = static_cast<int>(ceil_divide(p.queries, flash_side));
  const int key_tiles = static_cast<int>(ceil_divide(p.keys, flash_side));
  memory_ = context.arena->tensor(DType::i32, {p.batch, query_tiles + key_tiles, 2}, Label::workspace);
  auto* of_queries = static_cast<int2*>(memory_.view().raw());
  int2* of_keys = of_queries + std::int64_t{p.batch} * query_tiles;
  documents_ = {of_queries, of_keys, query_tiles, key_tiles};
  find_ranges(context, p, p.query_documents, p.query_documents_stride, p.queries, query_tiles, of_queries);
  find_ranges(context, p, p.key_documents, p.key_documents_stride, p.keys, key_tiles, of_keys);
}

bool flash_attention_forward(const OperatorContext& context, const AttentionMask& mask, double scale, ConstView q,
                             ConstView k, ConstView v, View out, View log_sum_exp) {
  if (!can_be_flashs({q, k, v, out})) return false;
  const AttentionProblem p(mask, scale, q, k, v);
  return with_flash_widths(p, [&]<class Widths>(Widths) {
    const TileDocumentsMemory documents(context, p);
    constexpr int width = Widths::width;
    launch_flash(context, flash_forward_kernel<Widths>, 2 * (flash_side * width + 2 * Widths::step * Widths::both),
                 p.queries, p.heads, p, Inputs{InputRows::of(q), InputRows::of(k), InputRows::of(v)}, documents.get(),
                 OutputRows::of(out), log_sum_exp.data<float>());
  });
}

}  // namespace moesaic::cuda
