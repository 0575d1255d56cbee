#include "moesaic/kernels/permutation.hpp"

#include "launch.cuh"
#include "moesaic/tensor/cuda_memory.hpp"
#include "rows.cuh"

namespace moesaic::cuda {
namespace {

__device__ float weight_at(const Matrix<const float>& weights, std::uint32_t token, int column) {
  return weights.data == nullptr ? 1.0f : weights[token][column];
}

/// One warp a row, `Word` of it a lane at a time.
template <class Word>
__global__ void __launch_bounds__(block_threads)
    gather_kernel(std::uint32_t slots, int words, const Word* in, std::int64_t in_stride,
                  const std::int32_t* slot_token, Word* out, std::int64_t out_stride) {
  const std::uint32_t slot = warp_number();
  if (slot >= slots) return;
  const Word* from = in + slot_token[slot] * in_stride;
  Word* to = out + slot * out_stride;
#pragma unroll 4
  for (int i = lane_number(); i < words; i += warp_lanes) to[i] = from[i];
}

template <class Word> void gather(const OperatorContext& context, ConstView in, ConstView slot_token, View out) {
  const std::int64_t element = size_of(in.dtype()), slots = out.extent(0);
  constexpr auto word = static_cast<std::int64_t>(sizeof(Word));
  gather_kernel<<<blocks_for(slots, block_warps), block_threads, 0, cuda_stream(context.stream)>>>(
      static_cast<std::uint32_t>(slots), static_cast<int>(out.extent(1) * element / word),
      static_cast<const Word*>(in.raw()), in.stride(0) * element / word, slot_token.data<std::int32_t>(),
      static_cast<Word*>(out.raw()), out.stride(0) * element / word);
  check_cuda(cudaGetLastError(), "the gathering kernel");
}

/// Each thread sums `count` neighbouring columns of one token.
template <class T, int count>
__global__ void __launch_bounds__(block_threads)
    combine_kernel(std::uint32_t items, std::uint32_t per_token, int top_k, Rows<const T> in,
                   Matrix<const std::int32_t> token_slot, Matrix<const float> weights, Rows<T> out) {
  const std::uint32_t item = thread_number();
  if (item >= items) return;
  const std::uint32_t token = item / per_token, column = item % per_token * count;
  float values[count], sums[count] = {};
#pragma unroll 4
  for (int j = 0; j < top_k; ++j) {
    const int slot = token_slot[token][j];
    if (slot < 0) continue;
    load(in[static_cast<std::uint32_t>(slot)] + column, values);
    const float weight = weight_at(weights, token, j);
#pragma unroll
    for (int i = 0; i < count; ++i) sums[i] += weight * values[i];
  }
  store(sums, out[token] + column);
}

/// One warp a token and column. Each lane reads its elements of `in` before it writes them: in_gradient may be in.
template <class T, int count, bool with_weights_gradient>
__global__ void __launch_bounds__(block_threads)
    combine_backward_kernel(std::uint32_t items, std::uint32_t top_k, int width, Rows<const T> in,
                            Matrix<const std::int32_t> token_slot, Matrix<const float> weights,
                            Rows<const T> out_gradient, Rows<T> in_gradient, Matrix<float> weights_gradient) {
  const std::uint32_t item = warp_number();
  if (item >= items) return;
  const std::uint32_t token = item / top_k;
  const int column = static_cast<int>(item % top_k), slot = token_slot[token][column];
  const float weight = weight_at(weights, token, column);
  const auto row = static_cast<std::uint32_t>(slot);
  float gradient[count], values[count], product = 0;
  for (int c = lane_number() * count; slot >= 0 && c < width; c += warp_lanes * count) {
    load(out_gradient[token] + c, gradient);
    if constexpr (with_weights_gradient) {
      load(in[row] + c, values);
#pragma unroll
      for (int i = 0; i < count; ++i) product += gradient[i] * values[i];
    }
#pragma unroll
    for (int i = 0; i < count; ++i) gradient[i] *= weight;
    store(gradient, in_gradient[row] + c);
  }
  if constexpr (with_weights_gradient) {
    product = warp_sum(product);
    if (lane_number() == 0) weights_gradient[token][column] = product;
  }
}

}  // namespace

void gather_rows(const OperatorContext& context, ConstView in, ConstView slot_token, View out) {
  MOESAIC_EXPECT(in.dtype() == out.dtype() && in.extent(1) == out.extent(1));
  if (out.size() == 0) return;
  if (vectors_fit(in) && vectors_fit(out)) return gather<uint4>(context, in, slot_token, out);
  if (size_of(in.dtype()) == 2) return gather<std::uint16_t>(context, in, slot_token, out);
  MOESAIC_EXPECT(size_of(in.dtype()) % 4 == 0);
  gather<std::uint32_t>(context, in, slot_token, out);
}

void combine_rows(const OperatorContext& context, ConstView in, ConstView token_slot, ConstView weights, View out) {
  if (out.size() == 0) return;
  with_vectors("combine_rows", out.dtype(), vectors_fit(in) && vectors_fit(out),
               [&]<class T, int count>(T, Constant<count>) {
                 const std::int64_t per_token = out.extent(1) / count, items = out.extent(0) * per_token;
                 combine_kernel<T, count><<<blocks_for(items), block_threads, 0, cuda_stream(context.stream)>>>(
                     static_cast<std::uint32_t>(items), static_cast<std::uint32_t>(per_token),
                     static_cast<int>(token_slot.extent(1)), rows_of<const T>(in),
                     matrix_of<const std::int32_t>(token_slot), matrix_of<const float>(weights), rows_of<T>(out));
               });
  check_cuda(cudaGetLastError(), "the combining kernel");
}

void combine_rows_backward(const OperatorContext& context, ConstView in, ConstView token_slot, ConstView weights,
                           ConstView out_gradient, View in_gradient, View weights_gradient) {
  const std::int64_t width = out_gradient.extent(1), items = token_slot.size();
  const bool products = !weights_gradient.absent();
  if (items == 0) return;
  const bool vectors = vectors_fit(out_gradient) && vectors_fit(in_gradient) && (!products || vectors_fit(in));
  with_vectors("combine_rows_backward", out_gradient.dtype(), vectors, [&]<class T, int count>(T, Constant<count>) {
    const auto launch = [&](auto kernel) {
      kernel<<<blocks_for(items, block_warps), block_threads, 0, cuda_stream(context.stream)>>>(
          static_cast<std::uint32_t>(items), static_cast<std::uint32_t>(token_slot.extent(1)), static_cast<int>(width),
          products ? rows_of<const T>(in) : Rows<const T>{nullptr, 1, 0, 0}, matrix_of<const std::int32_t>(token_slot),
          matrix_of<const float>(weights), rows_of<const T>(out_gradient), rows_of<T>(in_gradient),
          matrix_of<float>(weights_gradient));
    };
    products ? launch(combine_backward_kernel<T, count, true>) : launch(combine_backward_kernel<T, count, false>);
  });
  check_cuda(cudaGetLastError(), "the combining backward kernel");
}

}  // namespace moesaic::cuda
