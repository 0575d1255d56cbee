#include "moesaic/kernels/embedding.hpp"

#include "launch.cuh"
#include "moesaic/kernels/permutation.hpp"
#include "moesaic/tensor/cuda_memory.hpp"
#include "rows.cuh"

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

/// The end of the run of equal ids that starts at `first`, by bisection.
__device__ std::uint32_t end_of_run(std::uint32_t first, std::uint32_t tokens, const std::int32_t* ids,
                                    const std::int32_t* order) {
  const int id = ids[order[first]];
  std::uint32_t last = first, end = tokens;  // last belongs to the run, end does not
  while (end - last > 1) {
    const std::uint32_t middle = last + (end - last) / 2;
    if (ids[order[middle]] == id)
      last = middle;
    else
      end = middle;
  }
  return end;
}

/// One block a token in sorted order; that of the first token of an id adds the rows of all, in order. blockIdx.y: a
/// piece of the columns.
template <class T, int count>
__global__ void __launch_bounds__(add_threads)
    add_rows_kernel(std::uint32_t tokens, int width, const std::int32_t* ids, const std::int32_t* order,
                    Rows<const T> output_gradient, Rows<float> table_gradient) {
  const std::uint32_t first = blockIdx.x;
  const int id = ids[order[first]];
  const int c = static_cast<int>(blockIdx.y * add_threads + threadIdx.x) * count;
  if (c >= width || (first > 0 && ids[order[first - 1]] == id)) return;
  const std::uint32_t end = end_of_run(first, tokens, ids, order);
  float* row = table_gradient[static_cast<std::uint32_t>(id)] + c;
  float sums[count];
  load(row, sums);
  for (std::uint32_t i = first; i < end; ++i) {
    float values[count];
    load(output_gradient[static_cast<std::uint32_t>(order[i])] + c, values);
#pragma unroll
    for (int j = 0; j < count; ++j) sums[j] += values[j];
  }
  store(sums, row);
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
  with_vectors("embedding_backward", output_gradient.dtype(), vectors, [&]<class T, int count>(T, Constant<count>) {
    const dim3 grid(static_cast<unsigned>(tokens), static_cast<unsigned>(ceil_divide(width, add_threads * count)));
    add_rows_kernel<T, count><<<grid, add_threads, 0, cuda_stream(context.stream)>>>(
        static_cast<std::uint32_t>(tokens), static_cast<int>(width), ids.data<std::int32_t>(), order.data(),
        rows_of<const T>(output_gradient), rows_of<float>(table_gradient));
  });
  check_cuda(cudaGetLastError(), "the embedding gradient kernel");
}

}  // namespace moesaic::cuda
