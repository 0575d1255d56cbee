#include "moesaic/kernels/embedding.hpp"

#include "launch.cuh"
#include "moesaic/kernels/permutation.hpp"
#include "moesaic/tensor/cuda_memory.hpp"
#include "rows.cuh"

#include <cstring>
#include <utility>

namespace moesaic::cuda {
namespace {

/// Bits of an id that one pass of the sort looks at.
constexpr int digit_bits = 10;
constexpr int add_threads = 64;
constexpr std::int64_t digits = std::int64_t{1} << digit_bits;

/// digit [tokens] of the ids as sorted so far.
__global__ void __launch_bounds__(block_threads) digit_kernel(std::uint32_t tokens, int shift, const std::int32_t* ids,
                                                              const std::int32_t* order, std::int32_t* digit) {
  const std::uint32_t i = thread_number();
  if (i < tokens) digit[i] = ids[order == nullptr ? i : order[i]] >> shift & (digits - 1);
}

/// order = order of what this pass has sorted: order_after[i] = order_before[place[i]].
__global__ void __launch_bounds__(block_threads)
    compose_kernel(std::uint32_t tokens, const std::int32_t* before, const std::int32_t* place, std::int32_t* after) {
  const std::uint32_t i = thread_number();
  if (i < tokens) after[i] = before == nullptr ? place[i] : before[place[i]];
}

/// Numbers of tokens in ascending order of their ids, tokens of one id in order: a radix sort by digits, the lowest first.
class TokenOrder {
 public:
  TokenOrder(const OperatorContext& context, ConstView ids, std::int64_t vocabulary)
      : context_(context), tokens_(ids.extent(0)), digit_(workspace(tokens_)), place_(workspace(tokens_)),
        slots_(workspace(tokens_)), orders_{workspace(tokens_), workspace(tokens_)},
        offsets_(context.arena->tensor(DType::i64, {digits + 1}, Label::workspace)) {
    for (int shift = 0; shift == 0 || vocabulary > std::int64_t{1} << shift; shift += digit_bits) {
      pass(shift, ids.data<std::int32_t>());
    }
  }

  const std::int32_t* data() const { return order_; }

 private:
  Tensor workspace(std::int64_t size) const { return context_.arena->tensor(DType::i32, {size, 1}, Label::workspace); }

  void pass(int shift, const std::int32_t* ids) {
    const auto count = static_cast<std::uint32_t>(tokens_);
    const cudaStream_t stream = cuda_stream(context_.stream);
    digit_kernel<<<blocks_for(tokens_), block_threads, 0, stream>>>(count, shift, ids, order_,
                                                                    digit_.view().data<std::int32_t>());
    check_cuda(cudaGetLastError(), "the embedding's digit kernel");
    sort_by_key(context_, digit_, offsets_, place_, slots_);
    auto* next = orders_[0].view().data<std::int32_t>();
    compose_kernel<<<blocks_for(tokens_), block_threads, 0, stream>>>(count, order_, place_.view().data<std::int32_t>(),
                                                                      next);
    check_cuda(cudaGetLastError(), "the embedding's order kernel");
    order_ = next;
    std::swap(orders_[0], orders_[1]);
  }

  const OperatorContext& context_;
  std::int64_t tokens_;
  Tensor digit_, place_, slots_, orders_[2], offsets_;
  const std::int32_t* order_ = nullptr;  ///< null: as they come
};

/// The end of the run of equal ids that starts at `first`: in growing steps beyond it, then by bisection.
__device__ std::uint32_t end_of_run(std::uint32_t first, std::uint32_t tokens, const std::int32_t* ids,
                                    const std::int32_t* order) {
  const int id = ids[order[first]];
  std::uint32_t last = first, end = first + 1, step = 1;  // last belongs to the run
  while (end < tokens && ids[order[end]] == id) {
    last = end;
    end = min(tokens, end + step);
    step *= 2;
  }
  while (end - last > 1) {
    const std::uint32_t middle = last + (end - last) / 2;
    if (ids[order[middle]] == id)
      last = middle;
    else
      end = middle;
  }
  return end;
}

/// Tokens of one id up to which one loop adds them; more are read so many at once.
constexpr std::uint32_t short_run = warp_lanes;

/// The sums so far of `count` columns of one id's row, from column c on.
template <int count> struct RowSums {
  float* to;
  float sums[count];

  __device__ RowSums(Rows<float> table_gradient, int id, int c)
      : to(table_gradient[static_cast<std::uint32_t>(id)] + c) {
    load(to, sums);
  }
  template <class T> __device__ void add(const Vector<T, count>& row) {
#pragma unroll
    for (int j = 0; j < count; ++j) sums[j] += widen(row.elements[j]);
  }
};

/// One block a token in sorted order; that of the first token of an id adds the rows of all, in order, unless they are
/// many. blockIdx.y: a piece of the columns.
template <class T, int count>
__global__ void __launch_bounds__(add_threads)
    add_short_runs_kernel(std::uint32_t tokens, int width, const std::int32_t* ids, const std::int32_t* order,
                          Rows<const T> output_gradient, Rows<float> table_gradient) {
  const std::uint32_t first = blockIdx.x;
  const int id = ids[order[first]];
  const int c = static_cast<int>(blockIdx.y * add_threads + threadIdx.x) * count;
  if (c >= width || (first > 0 && ids[order[first - 1]] == id)) return;
  const std::uint32_t end = end_of_run(first, tokens, ids, order);
  if (end - first > short_run) return;
  RowSums<count> row(table_gradient, id, c);
  for (std::uint32_t i = first; i < end; ++i) {
    row.add(*reinterpret_cast<const Vector<T, count>*>(output_gradient[static_cast<std::uint32_t>(order[i])] + c));
  }
  store(row.sums, row.to);
}

/// Adds short_run rows, all of which are on their way before the first is waited for. token: the row of this lane's
/// number.
template <class T, int count>
__device__ void add_rows_at_once(Rows<const T> output_gradient, int c, std::uint32_t token, RowSums<count>& sums) {
  using Word = std::conditional_t<sizeof(Vector<T, count>) == sizeof(unsigned), unsigned, Vector<T, count>>;
  Word rows[short_run];
#pragma unroll
  for (std::uint32_t k = 0; k < short_run; ++k) {
    const T* from = output_gradient[__shfl_sync(~0u, token, static_cast<int>(k))] + c;
    rows[k] = *reinterpret_cast<const Word*>(from);
  }
  __syncwarp();  // no read is put off until its use
#pragma unroll
  for (std::uint32_t k = 0; k < short_run; ++k) {
    Vector<T, count> row;
    memcpy(&row, &rows[k], sizeof(row));
    sums.add(row);
  }
}

/// One block for every short_run-th token in sorted order: the first of them in a long run adds its rows, in order; lanes
/// hold the numbers of the next ones.
template <class T, int count>
__global__ void __launch_bounds__(add_threads)
    add_long_runs_kernel(std::uint32_t tokens, int width, const std::int32_t* ids, const std::int32_t* order,
                         Rows<const T> output_gradient, Rows<float> table_gradient) {
  const std::uint32_t middle = blockIdx.x * short_run, lane = threadIdx.x % warp_lanes;
  const int id = ids[order[middle]];
  if (middle > 0 && ids[order[middle - short_run]] == id) return;
  const unsigned same = __ballot_sync(~0u, lane <= middle && ids[order[middle - min(lane, middle)]] == id);
  const std::uint32_t first = middle + 1 - static_cast<std::uint32_t>(__popc(same));
  const std::uint32_t end = end_of_run(middle, tokens, ids, order);
  if (end - first <= short_run) return;
  const int column = static_cast<int>(blockIdx.y * add_threads + threadIdx.x) * count;
  const int c = column < width ? column : 0;  // whoever has none of its own goes along and writes nothing
  RowSums<count> row(table_gradient, id, c);
  const auto token_at = [&](std::uint32_t i) { return static_cast<std::uint32_t>(order[min(i, end - 1)]); };
  std::uint32_t i = first, token = token_at(first + lane);
  for (; i + short_run <= end; i += short_run) {
    const std::uint32_t next = token_at(i + short_run + lane);
    add_rows_at_once(output_gradient, c, token, row);
    token = next;
  }
  for (; i < end; ++i) row.add(*reinterpret_cast<const Vector<T, count>*>(output_gradient[token_at(i)] + c));
  if (column < width) store(row.sums, row.to);
}

}  // namespace

void embedding_forward(const OperatorContext& context, ConstView table, ConstView ids, View y) {
  gather_rows(context, table, ids, y);
}

void embedding_backward(const OperatorContext& context, ConstView ids, ConstView output_gradient, View table_gradient) {
  const std::int64_t tokens = ids.extent(0), width = output_gradient.extent(1);
  if (output_gradient.size() == 0) return;
  const TokenOrder order(context, ids, table_gradient.extent(0));
  const bool vectors = vectors_fit(output_gradient) && vectors_fit(table_gradient, 32);
  const auto run = [&](std::int64_t blocks, int columns, auto kernel, auto rows) {
    const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(ceil_divide(width, add_threads * columns)));
    kernel<<<grid, add_threads, 0, cuda_stream(context.stream)>>>(static_cast<std::uint32_t>(tokens),
                                                                  static_cast<int>(width), ids.data<std::int32_t>(),
                                                                  order.data(), rows, rows_of<float>(table_gradient));
    check_cuda(cudaGetLastError(), "an embedding gradient kernel");
  };
  with_vectors("embedding_backward", output_gradient.dtype(), vectors, [&]<class T, int count>(T, Constant<count>) {
    constexpr int narrow = count > 1 ? sizeof(unsigned) / sizeof(T) : 1;  // so that many blocks share a row
    const Rows<const T> rows = rows_of<const T>(output_gradient);
    run(tokens, count, add_short_runs_kernel<T, count>, rows);
    run(ceil_divide(tokens, short_run), narrow, add_long_runs_kernel<T, narrow>, rows);
  });
}

}  // namespace moesaic::cuda
