#include "attention_flash.cuh"
#include "attention_variants.hpp"

namespace moesaic::cuda {
namespace {

/// Of a query and head: log_sum_exp in powers of two, and <out, out_gradient>, which is the probabilities' mean of
/// d loss / d probability.
struct alignas(8) RowValues {
  float shift, mean;
};

struct Inputs {
  InputRows q, k, v, out, out_gradient;
  const float* log_sum_exp;  ///< [batch, heads, queries]

  __device__ std::int64_t row(const AttentionProblem& p, int sequence, int head) const {
    return (std::int64_t{sequence} * p.heads + head) * p.queries;
  }
};

/// What stays in registers beside the sums.
template <class Widths> inline constexpr bool queries_held = Widths::both <= 256;
template <class Widths> inline constexpr bool keys_held = Widths::both <= 128;
template <class Widths> inline constexpr bool values_held = Widths::both <= 256;

/// Turns scores into probabilities and the gradients of probabilities into those of scores (without the scale):
/// P = exp(scale * S - log_sum_exp), 0 where hidden; dS = P (dP - mean). `values` is a function of (j, c).
template <class Values, class Hide>
__device__ void differentiate(float scale, const Values& values, const Hide& hide, Square& scores, Square& gradients) {
  for_values([&](int j, int c) { scores.values[j][c] = exp2_fast(scale * scores.values[j][c] - values(j, c).shift); });
  hide(scores);
  for_values([&](int j, int c) {
    gradients.values[j][c] = scores.values[j][c] * (gradients.values[j][c] - values(j, c).mean);
  });
}

/// One block a tile of queries of one head: all its keys in order. dQ = scale dS K. On the way it fills row_values
/// [batch, heads, queries].
template <class Widths>
__global__ void __launch_bounds__(flash_threads, Widths::both <= 128 ? 4 : 2)
    flash_query_kernel(AttentionProblem p, Inputs in, TileDocuments documents, OutputRows q_gradient,
                       RowValues* row_values) {
  constexpr int width = Widths::width, value_width = Widths::value_width, step = Widths::step;
  extern __shared__ uint4 memory[];
  SharedMemory shared(memory);
  const auto q_tile = shared.rows<width>(flash_side);
  const auto gradient_tile = shared.rows<value_width>(flash_side);
  const auto out_tile = shared.rows<value_width>(flash_side);
  const auto k_tile = shared.rows<width>(2 * step);
  const auto v_tile = shared.rows<value_width>(2 * step);
  const QueryTile<Widths> tile(p);
  const auto fetch = [&](int key, int stage) { tile.fetch(in, p, key, stage, k_tile, v_tile); };
  const auto fetch_own = [&](const InputRows& rows, auto to) {
    fetch_rows<flash_side, flash_threads>(rows, tile.place, tile.first, p.queries, to);
  };
  fetch_own(in.q, q_tile);
  fetch_own(in.out_gradient, gradient_tile);
  fetch_own(in.out, out_tile);
  hopper::commit_copies();
  int key = tile.first_key(p, documents), stage = 0;
  if (key < tile.end) fetch(key, stage);
  hopper::commit_copies();
  hopper::wait_for_copies<1>();
  __syncthreads();

  const LeftRows<width, queries_held<Widths>> q_rows(q_tile, own_row());
  const LeftRows<value_width, queries_held<Widths>> gradient_rows(gradient_tile, own_row());
  float means[2];
  row_products(gradient_rows, out_tile, own_row(), means);
  RowValues values[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int query = tile.own + Square::row(2 * r);
    const std::int64_t row = in.row(p, tile.sequence, tile.head) + query;
    values[r] = {query < p.queries ? in.log_sum_exp[row] * log2_e : 0.0f, means[r]};
    if (lane_number() % 4 == 0 && query < p.queries) row_values[row] = values[r];
  }

  const RowMask mask = RowMask::of_queries(p, tile.sequence, tile.own);
  Square sums[width / square_side] = {};
  // While one step of keys is worked on, the next is under way.
  for (; key < tile.end; stage ^= 1) {
    const int following = tile.seen_from(key + step, documents);
    hopper::wait_for_copies<0>();
    __syncthreads();
    if (following < tile.end) fetch(following, stage ^ 1);
    hopper::commit_copies();
    const bool one_document = documents.one(tile.sequence, tile.first, key);
    const auto hide = [&](int at, Square& square) {
      if (!one_document || !mask.all.covers(at, square_side)) mask.hide(at, one_document, 0, square);
    };
    for (int s = 0; s < step; s += square_side) {
      const int at = key + s, row = stage * step + s;
      if (!mask.any.meets(at, square_side)) continue;
      Square scores = inner_products(q_rows, k_tile, row), gradients = inner_products(gradient_rows, v_tile, row);
      differentiate(
          p.scale * log2_e, [&](int, int c) { return values[c / 2]; }, [&](Square& square) { hide(at, square); },
          scores, gradients);
      add_weighted_rows(left_of(gradients), k_tile, row, sums);
    }
    key = following;
  }
  store_sums(sums, {p.scale, p.scale}, q_tile, own_row(), q_gradient, tile.place, tile.own, p.queries);
}

/// One block a tile of keys of one key head: all queries of its heads in order. dV = P^T dO, dK = scale dS^T Q.
template <class Widths>
__global__ void __launch_bounds__(flash_threads, Widths::both <= 128 ? 3 : 2)
    flash_key_kernel(AttentionProblem p, Inputs in, TileDocuments documents, const RowValues* row_values,
                     OutputRows k_gradient, OutputRows v_gradient) {
  constexpr int width = Widths::width, value_width = Widths::value_width, step = Widths::step;
  extern __shared__ uint4 memory[];
  SharedMemory shared(memory);
  const auto k_tile = shared.rows<width>(flash_side);
  const auto v_tile = shared.rows<value_width>(flash_side);
  const auto q_tile = shared.rows<width>(2 * step);
  const auto gradient_tile = shared.rows<value_width>(2 * step);
  auto* value_rows = reinterpret_cast<RowValues*>(shared.pieces(2 * step / 2));
  const int first = static_cast<int>(blockIdx.x) * flash_side, own = first + own_row();
  const int key_head = static_cast<int>(blockIdx.y), sequence = static_cast<int>(blockIdx.z);
  const HeadPlace key_place{sequence, key_head};
  const int heads_end = (key_head + 1) * p.group;
  const int end = p.queries_end(min(p.keys, first + flash_side) - 1);
  const auto seen_from = [&](int query) {
    while (query < end && documents.apart(sequence, query, first)) query += step;
    return query;
  };
  const RowValues* sequence_values = row_values + in.row(p, sequence, 0);
  const auto fetch = [&](int head, int query, int stage) {
    const int row = stage * step;
    fetch_rows<step, flash_threads>(in.q, {sequence, head}, query, p.queries, q_tile, row);
    fetch_rows<step, flash_threads>(in.out_gradient, {sequence, head}, query, p.queries, gradient_tile, row);
    const int i = static_cast<int>(threadIdx.x);
    if (i >= step) return;
    copy_or_zero<8>(sequence_values + head * p.queries + query + i, value_rows + row + i, query + i < p.queries);
  };
  fetch_rows<flash_side, flash_threads>(in.k, key_place, first, p.keys, k_tile);
  fetch_rows<flash_side, flash_threads>(in.v, key_place, first, p.keys, v_tile);
  hopper::commit_copies();
  const int begin = seen_from(documents.aligned(p.queries_begin(first)));
  int head = begin < end ? key_head * p.group : heads_end, query = begin, stage = 0;
  if (head < heads_end) fetch(head, query, stage);
  hopper::commit_copies();
  hopper::wait_for_copies<1>();
  __syncthreads();

  const LeftRows<width, keys_held<Widths>> k_rows(k_tile, own_row());
  const LeftRows<value_width, values_held<Widths>> v_rows(v_tile, own_row());
  const RowMask mask = RowMask::of_keys(p, sequence, own);
  Square k_sums[width / square_side] = {}, v_sums[value_width / square_side] = {};
  // While one step of a head's queries is worked on, the next is under way, of the next head after the last.
  for (; head < heads_end; stage ^= 1) {
    const int later = seen_from(query + step);
    const int next_head = later < end ? head : head + 1, next_query = later < end ? later : begin;
    hopper::wait_for_copies<0>();
    __syncthreads();
    if (next_head < heads_end) fetch(next_head, next_query, stage ^ 1);
    hopper::commit_copies();
    const bool one_document = documents.one(sequence, query, first);
    const auto hide = [&](int at, Square& square) {
      if (!one_document || !mask.all.covers(at, square_side)) mask.hide(at, one_document, 0, square);
    };
    for (int s = 0; s < step; s += square_side) {
      const int at = query + s, row = stage * step + s;
      if (!mask.any.meets(at, square_side)) continue;
      Square scores = inner_products(k_rows, q_tile, row), gradients = inner_products(v_rows, gradient_tile, row);
      differentiate(
          p.scale * log2_e, [&](int j, int c) { return value_rows[row + Square::column(j, c)]; },
          [&](Square& square) { hide(at, square); }, scores, gradients);
      add_weighted_rows(left_of(scores), gradient_tile, row, v_sums);
      add_weighted_rows(left_of(gradients), q_tile, row, k_sums);
    }
    head = next_head;
    query = next_query;
  }
  store_sums(k_sums, {p.scale, p.scale}, k_tile, own_row(), k_gradient, key_place, own, p.keys);
  store_sums(v_sums, {1.0f, 1.0f}, v_tile, own_row(), v_gradient, key_place, own, p.keys);
}

/// Bytes of shared memory.
template <class Widths> constexpr int query_bytes() {
  return 2 * (flash_side * (Widths::both + Widths::value_width) + 2 * Widths::step * Widths::both);
}
template <class Widths> constexpr int key_bytes() {
  return 2 * (flash_side + 2 * Widths::step) * Widths::both + 2 * Widths::step * static_cast<int>(sizeof(RowValues));
}

}  // namespace

bool flash_attention_backward(const OperatorContext& context, const AttentionMask& mask, double scale, ConstView q,
                              ConstView k, ConstView v, ConstView out, ConstView log_sum_exp, ConstView out_gradient,
                              View q_gradient, View k_gradient, View v_gradient) {
  if (!can_be_flashs({q, k, v, out, out_gradient, q_gradient, k_gradient, v_gradient})) return false;
  const AttentionProblem p(mask, scale, q, k, v);
  return with_flash_widths(p, [&]<class Widths>(Widths) {
    const TileDocumentsMemory documents(context, p);
    const Tensor memory = context.arena->tensor(DType::f32, {p.batch, p.heads, p.queries, 2}, Label::workspace);
    auto* row_values = static_cast<RowValues*>(memory.view().raw());
    const Inputs in{
        InputRows::of(q),         InputRows::of(k), InputRows::of(v), InputRows::of(out), InputRows::of(out_gradient),
        log_sum_exp.data<float>()};
    launch_flash(context, flash_query_kernel<Widths>, query_bytes<Widths>(), p.queries, p.heads, p, in, documents.get(),
                 OutputRows::of(q_gradient), row_values);
    launch_flash(context, flash_key_kernel<Widths>, key_bytes<Widths>(), p.keys, p.key_heads, p, in, documents.get(),
                 static_cast<const RowValues*>(row_values), OutputRows::of(k_gradient), OutputRows::of(v_gradient));
  });
}

}  // namespace moesaic::cuda
