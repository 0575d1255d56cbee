#include "moesaic/kernels/rotary.hpp"

#include "launch.cuh"
#include "moesaic/tensor/cuda_memory.hpp"
#include "rows.cuh"

namespace moesaic::cuda {
namespace {

/// cos and sin of every position: rows of width/2.
struct Table {
  const float* cosine;
  const float* sine;
  std::int64_t cosine_stride, sine_stride;
  const std::int32_t* positions;
};

template <int count>
__device__ void turn(const float (&cosine)[count], const float (&sine)[count], float sign, float (&a)[count],
                     float (&b)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) {
    const float old_a = a[i], s = sign * sine[i];
    a[i] = old_a * cosine[i] - b[i] * s;
    b[i] = b[i] * cosine[i] + old_a * s;
  }
}

/// Each thread turns `count` neighbouring pairs of one head.
template <RotaryPairs pairs, class T, int count>
__global__ void __launch_bounds__(block_threads)
    rotary_kernel(std::uint32_t items, std::uint32_t half, float sign, Table table, Rows<T> heads) {
  const std::uint32_t item = thread_number();
  if (item >= items) return;
  const std::uint32_t per_head = half / count, row = item / per_head, pair = item % per_head * count;
  const std::int64_t position = table.positions[row / heads.heads];
  T* x = heads[row];
  float cosine[count], sine[count], a[count], b[count];
  load(table.cosine + position * table.cosine_stride + pair, cosine);
  load(table.sine + position * table.sine_stride + pair, sine);
  if constexpr (pairs == RotaryPairs::halves) {
    load(x + pair, a);
    load(x + pair + half, b);
    turn(cosine, sine, sign, a, b);
    store(a, x + pair);
    store(b, x + pair + half);
  } else {
    float mixed[2 * count];
    load(x + 2 * pair, mixed);
#pragma unroll
    for (int i = 0; i < count; ++i) a[i] = mixed[2 * i], b[i] = mixed[2 * i + 1];
    turn(cosine, sine, sign, a, b);
#pragma unroll
    for (int i = 0; i < count; ++i) mixed[2 * i] = a[i], mixed[2 * i + 1] = b[i];
    store(mixed, x + 2 * pair);
  }
}

/// Pairs that one thread can turn: 16 bytes of each half, or of both interleaved; 1 where memory is not aligned so.
bool pairs_fit(const View& x, ConstView cosine, ConstView sine, RotaryPairs pairs, int count) {
  const std::int64_t half_bytes = x.extent(2) / 2 * size_of(x.dtype());
  return vectors_fit(x) && vectors_fit(cosine, 4 * count) && vectors_fit(sine, 4 * count) &&
         (pairs == RotaryPairs::interleaved || half_bytes % 16 == 0);
}

template <RotaryPairs pairs, class T>
void run(cudaStream_t stream, View x, ConstView cosine, ConstView sine, ConstView positions, float sign) {
  constexpr int count = static_cast<int>(16 / sizeof(T)) / (pairs == RotaryPairs::halves ? 1 : 2);
  const std::int64_t half = x.extent(2) / 2;
  const Table table{cosine.data<float>(), sine.data<float>(), cosine.stride(0), sine.stride(0),
                    positions.data<std::int32_t>()};
  const auto launch = [&]<int width>(Constant<width>) {
    const std::int64_t items = x.extent(0) * x.extent(1) * (half / width);
    rotary_kernel<pairs, T, width><<<blocks_for(items), block_threads, 0, stream>>>(
        static_cast<std::uint32_t>(items), static_cast<std::uint32_t>(half), sign, table, rows_of<T>(x));
  };
  pairs_fit(x, cosine, sine, pairs, count) ? launch(Constant<count>{}) : launch(Constant<1>{});
  check_cuda(cudaGetLastError(), "the rotary kernel");
}

}  // namespace

void rotary(const OperatorContext& context, View x, ConstView cosine, ConstView sine, ConstView positions,
            RotaryPairs pairs, RotaryDirection direction) {
  MOESAIC_EXPECT(x.rank() == 3 && positions.size() == x.extent(0));
  MOESAIC_EXPECT(x.extent(2) == 2 * cosine.extent(1) && cosine.extents() == sine.extents());
  if (x.size() == 0) return;
  const float sign = direction == RotaryDirection::forward ? 1 : -1;
  const cudaStream_t stream = cuda_stream(context.stream);
  with_storage("rotary", x.dtype(), [&]<class T>(T) {
    pairs == RotaryPairs::halves ? run<RotaryPairs::halves, T>(stream, x, cosine, sine, positions, sign)
                                 : run<RotaryPairs::interleaved, T>(stream, x, cosine, sine, positions, sign);
  });
}

}  // namespace moesaic::cuda
