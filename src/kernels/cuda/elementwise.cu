#include "moesaic/kernels/elementwise.hpp"

#include "floating.cuh"
#include "launch.cuh"
#include "moesaic/tensor/cuda_memory.hpp"
#include "rows.cuh"

#include <algorithm>

namespace moesaic::cuda {
namespace {

constexpr std::int64_t max_blocks = 132 * 8;

/// Calls body(i) for i in [0, items).
template <class Body> __global__ void __launch_bounds__(block_threads) for_each_kernel(std::int64_t items, Body body) {
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < items; i += step) body(i);
}

template <class Body> void for_each(cudaStream_t stream, std::int64_t items, const Body& body) {
  if (items == 0) return;
  const auto blocks = static_cast<unsigned>(std::min(max_blocks, ceil_divide(items, block_threads)));
  for_each_kernel<<<blocks, block_threads, 0, stream>>>(items, body);
  check_cuda(cudaGetLastError(), "an elementwise kernel");
}

template <class T, int count> struct FillBody {
  T value;
  T* out;

  __device__ void operator()(std::int64_t i) const {
    Vector<T, count> vector;
#pragma unroll
    for (int j = 0; j < count; ++j) vector.elements[j] = value;
    reinterpret_cast<Vector<T, count>*>(out)[i] = vector;
  }
};

template <class T> void fill_with(cudaStream_t stream, T value, std::int64_t size, T* out) {
  constexpr int count = 16 / sizeof(T);
  const std::int64_t vectors = aligned(out, 16) ? size / count : 0;
  for_each(stream, vectors, FillBody<T, count>{value, out});
  for_each(stream, size - vectors * count, FillBody<T, 1>{value, out + vectors * count});
}

template <class T, int count> struct ScaleBody {
  Common<T, T> factor;
  T* values;

  __device__ void operator()(std::int64_t i) const {
    auto vector = reinterpret_cast<Vector<T, count>*>(values)[i];
#pragma unroll
    for (int j = 0; j < count; ++j) {
      vector.elements[j] = narrowed<T>(widened<Common<T, T>>(vector.elements[j]) * factor);
    }
    reinterpret_cast<Vector<T, count>*>(values)[i] = vector;
  }
};

/// Where the rows of two views of the same extents lie: dimensions but the last, from the inside out.
struct RowPairs {
  std::uint32_t vectors_per_row = 1, extents[2] = {1, 1};
  std::int64_t in_strides[3] = {}, out_strides[3] = {};
};

RowPairs row_pairs(ConstView in, View out, int count) {
  MOESAIC_EXPECT(in.extents() == out.extents() && in.size() / count < std::int64_t{1} << 32);
  RowPairs rows;
  const int last = in.rank() - 1;
  rows.vectors_per_row = static_cast<std::uint32_t>(in.extent(last) / count);
  for (int i = 0; i < last; ++i) {
    rows.in_strides[i] = in.stride(last - 1 - i);
    rows.out_strides[i] = out.stride(last - 1 - i);
    if (i < 2) rows.extents[i] = static_cast<std::uint32_t>(in.extent(last - 1 - i));
  }
  return rows;
}

/// out (+)= in for `count` neighbours.
template <bool add, class In, class Out, int count> __device__ void move(const In* in, Out* out) {
  using Sum = Common<In, Out>;
  const auto from = *reinterpret_cast<const Vector<In, count>*>(in);
  Vector<Out, count> to;
  if constexpr (add) to = *reinterpret_cast<const Vector<Out, count>*>(out);
#pragma unroll
  for (int j = 0; j < count; ++j) {
    auto value = widened<Sum>(from.elements[j]);
    if constexpr (add) value += widened<Sum>(to.elements[j]);
    to.elements[j] = narrowed<Out>(value);
  }
  *reinterpret_cast<Vector<Out, count>*>(out) = to;
}

template <bool add, class In, class Out, int count> struct MoveBody {
  const In* in;
  Out* out;

  __device__ void operator()(std::int64_t i) const { move<add, In, Out, count>(in + i * count, out + i * count); }
};

template <bool add, class In, class Out, int count> struct MoveRowsBody {
  const In* in;
  Out* out;
  RowPairs rows;

  __device__ void operator()(std::int64_t i) const {
    const auto vector = static_cast<std::uint32_t>(i);
    const std::uint32_t row = vector / rows.vectors_per_row, column = vector % rows.vectors_per_row * count;
    const std::uint32_t outer = row / rows.extents[0], a = row % rows.extents[0];
    const std::uint32_t b = outer % rows.extents[1], c = outer / rows.extents[1];
    move<add, In, Out, count>(
        in + a * rows.in_strides[0] + b * rows.in_strides[1] + c * rows.in_strides[2] + column,
        out + a * rows.out_strides[0] + b * rows.out_strides[1] + c * rows.out_strides[2] + column);
  }
};

constexpr int move_count = 4;

template <bool add, class In, class Out> void move_contiguous(cudaStream_t stream, ConstView in, View out) {
  const In* from = in.data<In>();
  Out* to = out.data<Out>();
  const bool fit = aligned(from, sizeof(In) * move_count) && aligned(to, sizeof(Out) * move_count);
  const std::int64_t vectors = fit ? in.size() / move_count : 0, done = vectors * move_count;
  for_each(stream, vectors, MoveBody<add, In, Out, move_count>{from, to});
  for_each(stream, in.size() - done, MoveBody<add, In, Out, 1>{from + done, to + done});
}

template <bool add, class In, class Out> void move_rows(cudaStream_t stream, ConstView in, View out) {
  const bool fit = vectors_fit(in, sizeof(In) * move_count) && vectors_fit(out, sizeof(Out) * move_count);
  const auto run = [&]<int count>(Constant<count>) {
    for_each(stream, in.size() / count,
             MoveRowsBody<add, In, Out, count>{in.data<In>(), out.data<Out>(), row_pairs(in, out, count)});
  };
  fit ? run(Constant<move_count>{}) : run(Constant<1>{});
}

template <bool add> void move_any(const char* name, const OperatorContext& context, ConstView in, View out) {
  MOESAIC_EXPECT(in.size() == out.size());
  if (in.size() == 0) return;
  const bool contiguous = in.contiguous() && out.contiguous();
  with_floating(name, in.dtype(), [&]<class In>(In) {
    with_floating(name, out.dtype(), [&]<class Out>(Out) {
      const cudaStream_t stream = cuda_stream(context.stream);
      contiguous ? move_contiguous<add, In, Out>(stream, in, out) : move_rows<add, In, Out>(stream, in, out);
    });
  });
}

struct AddCountsBody {
  const std::int64_t* in;
  std::int64_t* out;

  __device__ void operator()(std::int64_t i) const { out[i] += in[i]; }
};

}  // namespace

void fill(const OperatorContext& context, double value, View values) {
  MOESAIC_EXPECT(values.contiguous());
  const cudaStream_t stream = cuda_stream(context.stream);
  if (values.dtype() == DType::i64) {
    return fill_with(stream, static_cast<std::int64_t>(value), values.size(), values.data<std::int64_t>());
  }
  with_floating("fill", values.dtype(), [&]<class T>(T) {
    if constexpr (std::is_same_v<T, bf16>)
      fill_with(stream, to_bf16(static_cast<float>(value)), values.size(), values.data<T>());
    else
      fill_with(stream, static_cast<T>(value), values.size(), values.data<T>());
  });
}

void copy(const OperatorContext& context, ConstView in, View out) {
  if (in.dtype() != out.dtype() || !in.contiguous() || !out.contiguous()) {
    return move_any<false>("copy", context, in, out);
  }
  MOESAIC_EXPECT(in.size() == out.size());
  if (in.size() == 0 || in.raw() == out.raw()) return;
  check_cuda(cudaMemcpyAsync(out.raw(), in.raw(), static_cast<std::size_t>(in.bytes()), cudaMemcpyDeviceToDevice,
                             cuda_stream(context.stream)),
             "cudaMemcpyAsync");
}

void accumulate(const OperatorContext& context, ConstView in, View out) {
  if (out.dtype() != DType::i64) return move_any<true>("accumulate", context, in, out);
  MOESAIC_EXPECT(in.size() == out.size() && in.contiguous() && out.contiguous());
  for_each(cuda_stream(context.stream), in.size(), AddCountsBody{in.data<std::int64_t>(), out.data<std::int64_t>()});
}

void scale(const OperatorContext& context, double factor, View values) {
  MOESAIC_EXPECT(values.contiguous());
  const cudaStream_t stream = cuda_stream(context.stream);
  with_floating("scale", values.dtype(), [&]<class T>(T) {
    constexpr int count = 16 / sizeof(T);
    T* x = values.data<T>();
    const std::int64_t vectors = aligned(x, 16) ? values.size() / count : 0;
    const auto narrow_factor = static_cast<Common<T, T>>(factor);
    for_each(stream, vectors, ScaleBody<T, count>{narrow_factor, x});
    for_each(stream, values.size() - vectors * count, ScaleBody<T, 1>{narrow_factor, x + vectors * count});
  });
}

}  // namespace moesaic::cuda
