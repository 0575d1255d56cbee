#include "moesaic/kernels/head_norm_rotary.hpp"

#include "launch.cuh"
#include "moesaic/tensor/cuda_memory.hpp"
#include "partial_sums.hpp"
#include "rows.cuh"

namespace moesaic::cuda {
namespace {

/// The pairs of a head: number p turns elements (p, p + half) below half, and beyond, where nothing turns, it is two
/// elements that lie `rest` apart.
struct Pairs {
  int half, rest;
  const float* cosine;
  const float* sine;
  std::int64_t cosine_stride, sine_stride;
  const std::int32_t* positions;

  __device__ int count() const { return half + rest; }
  __device__ int first(int p) const { return p < half ? p : p + half; }
  __device__ int second(int p) const { return first(p) + (p < half ? half : rest); }
};

/// `count` neighbouring pairs of one head.
template <int count> struct Piece {
  float a[count], b[count];

  template <class T> __device__ void read(const T* head, const Pairs& pairs, int p) {
    load(head + pairs.first(p), a);
    load(head + pairs.second(p), b);
  }
  template <class T> __device__ void write(T* head, const Pairs& pairs, int p) const {
    store(a, head + pairs.first(p));
    store(b, head + pairs.second(p));
  }
  /// sign -1 turns back.
  __device__ void turn(const Pairs& pairs, std::int64_t position, int p, float sign) {
    if (p >= pairs.half) return;
    float cosine[count], sine[count];
    load(pairs.cosine + position * pairs.cosine_stride + p, cosine);
    load(pairs.sine + position * pairs.sine_stride + p, sine);
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const float old_a = a[i], s = sign * sine[i];
      a[i] = old_a * cosine[i] - b[i] * s;
      b[i] = b[i] * cosine[i] + old_a * s;
    }
  }
};

/// `lanes` lanes a head, each with `vectors` vectors of `count` pairs.
template <class T, int count, int lanes, int vectors>
__global__ void __launch_bounds__(block_threads)
    forward_kernel(std::uint32_t rows, float eps, Pairs pairs, Rows<const T> x, const T* weight, Rows<T> y,
                   float* inverse_rms) {
  const std::uint32_t row = thread_number() / lanes;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const bool active = row < rows;
  Piece<count> pieces[vectors];
  float squares = 0;
#pragma unroll
  for (int v = 0; v < vectors; ++v) {
    const int p = (v * lanes + lane) * count;
    if (!active || p >= pairs.count()) continue;
    pieces[v].read(x[row], pairs, p);
#pragma unroll
    for (int i = 0; i < count; ++i) squares += pieces[v].a[i] * pieces[v].a[i] + pieces[v].b[i] * pieces[v].b[i];
  }
  const float r = rsqrtf(warp_sum<lanes>(squares) / static_cast<float>(2 * pairs.count()) + eps);
  if (!active) return;
  const std::int64_t position = pairs.positions[row / x.heads];
#pragma unroll
  for (int v = 0; v < vectors; ++v) {
    const int p = (v * lanes + lane) * count;
    if (p >= pairs.count()) continue;
    Piece<count> factors;
    factors.read(weight, pairs, p);
#pragma unroll
    for (int i = 0; i < count; ++i) pieces[v].a[i] *= r * factors.a[i], pieces[v].b[i] *= r * factors.b[i];
    pieces[v].turn(pairs, position, p, 1);
    pieces[v].write(y[row], pairs, p);
  }
  if (lane == 0) inverse_rms[row] = r;
}

/// partials [blocks, width]: adds up the block's sums, groups of lanes in a fixed order.
template <int count, int lanes, int vectors>
__device__ void write_partials(const Pairs& pairs, Piece<count> (&sums)[vectors], float* partials) {
  constexpr int groups = block_threads / lanes;
  __shared__ float shared[groups][2 * lanes * count];
  const int lane = static_cast<int>(threadIdx.x) % lanes, group = static_cast<int>(threadIdx.x) / lanes;
  float* row = partials + std::int64_t{blockIdx.x} * 2 * pairs.count();
#pragma unroll
  for (int v = 0; v < vectors; ++v) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < count; ++i) {
      shared[group][lane * count + i] = sums[v].a[i];
      shared[group][(lanes + lane) * count + i] = sums[v].b[i];
    }
    __syncthreads();
    for (int j = static_cast<int>(threadIdx.x); j < 2 * lanes * count; j += block_threads) {
      const int p = v * lanes * count + j % (lanes * count);
      if (p >= pairs.count()) continue;
      float sum = 0;
      for (int g = 0; g < groups; ++g) sum += shared[g][j];
      row[j < lanes * count ? pairs.first(p) : pairs.second(p)] = sum;
    }
  }
}

/// One block a chunk of rows. gradient: in place.
template <class T, int count, int lanes, int vectors>
__global__ void __launch_bounds__(block_threads, vectors == 1 ? 3 : 1)
    backward_kernel(std::uint32_t rows, std::uint32_t chunk_rows, Pairs pairs, Rows<const T> x, const T* weight,
                    const float* inverse_rms, Rows<T> gradient, float* partials) {
  constexpr int groups = block_threads / lanes;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const std::uint32_t begin = blockIdx.x * chunk_rows, end = min(rows, begin + chunk_rows);
  Piece<count> sums[vectors] = {};
  for (std::uint32_t base = begin; base < end; base += groups) {
    const std::uint32_t row = base + threadIdx.x / lanes;
    const bool active = row < end;
    const float r = active ? inverse_rms[row] : 0.0f;
    const std::int64_t position = active ? pairs.positions[row / x.heads] : 0;
    Piece<count> values[vectors] = {}, slopes[vectors] = {}, factors;
    float product = 0;
#pragma unroll
    for (int v = 0; v < vectors; ++v) {
      const int p = (v * lanes + lane) * count;
      if (!active || p >= pairs.count()) continue;
      values[v].read(x[row], pairs, p);
      slopes[v].read(gradient[row], pairs, p);
      factors.read(weight, pairs, p);
      slopes[v].turn(pairs, position, p, -1);
#pragma unroll
      for (int i = 0; i < count; ++i) {
        sums[v].a[i] += slopes[v].a[i] * values[v].a[i] * r;
        sums[v].b[i] += slopes[v].b[i] * values[v].b[i] * r;
        slopes[v].a[i] *= factors.a[i];
        slopes[v].b[i] *= factors.b[i];
        product += slopes[v].a[i] * values[v].a[i] + slopes[v].b[i] * values[v].b[i];
      }
    }
    const float slope = r * r * warp_sum<lanes>(product) / static_cast<float>(2 * pairs.count());
#pragma unroll
    for (int v = 0; v < vectors; ++v) {
      const int p = (v * lanes + lane) * count;
      if (!active || p >= pairs.count()) continue;
#pragma unroll
      for (int i = 0; i < count; ++i) {
        slopes[v].a[i] = r * (slopes[v].a[i] - values[v].a[i] * slope);
        slopes[v].b[i] = r * (slopes[v].b[i] - values[v].b[i] * slope);
      }
      slopes[v].write(gradient[row], pairs, p);
    }
  }
  write_partials<count, lanes>(pairs, sums, partials);
}

Pairs pairs_of(const ConstView& x, const ConstView& cosine, const ConstView& sine, const ConstView& positions) {
  MOESAIC_EXPECT(x.rank() == 3 && x.extent(2) % 2 == 0 && 2 * cosine.extent(1) <= x.extent(2));
  const int half = static_cast<int>(cosine.extent(1));
  return {half,
          static_cast<int>(x.extent(2) / 2) - half,
          cosine.data<float>(),
          sine.data<float>(),
          cosine.stride(0),
          sine.stride(0),
          positions.data<std::int32_t>()};
}

/// True when 16 bytes of a head's elements are a vector of pairs' first or second ones.
bool vectors_of_pairs(const Pairs& pairs, const ConstView& x, const ConstView& weight, const ConstView& y,
                      const ConstView& cosine, const ConstView& sine) {
  const int count = static_cast<int>(16 / size_of(x.dtype()));
  return vectors_fit(x) && vectors_fit(y) && vectors_fit(weight) && vectors_fit(cosine, 4 * count) &&
         vectors_fit(sine, 4 * count) && pairs.half % count == 0 && pairs.rest % count == 0;
}

/// body(T, pairs a vector, lanes a head, vectors a lane).
template <class Body> void with_shape(DType type, bool vectors, std::int64_t pairs, const Body& body) {
  with_vectors("head_norm_rotary", type, vectors, [&]<class T, int count>(T zero, Constant<count> size) {
    expect_at_most("head_norm_rotary", "pairs of a head", pairs, 256 * count);
    if constexpr (count > 1) {
      if (pairs <= 8 * count) return body(zero, size, Constant<8>{}, Constant<1>{});
      if (pairs <= 16 * count) return body(zero, size, Constant<16>{}, Constant<1>{});
      if (pairs <= 32 * count) return body(zero, size, Constant<32>{}, Constant<1>{});
    }
    body(zero, size, Constant<32>{}, Constant<8>{});
  });
}

/// Rows of one block: at most 396 blocks (3 on each of an H100's 132 multiprocessors). Depends on the shape alone.
std::int64_t chunk_rows_of(std::int64_t rows, std::int64_t rows_at_once) {
  return ceil_divide(ceil_divide(rows, rows_at_once), 396) * rows_at_once;
}

}  // namespace

void head_norm_rotary_forward(const OperatorContext& context, ConstView x, ConstView weight, double eps,
                              ConstView cosine, ConstView sine, ConstView positions, View y, View inverse_rms) {
  if (x.size() == 0) return;
  const Pairs pairs = pairs_of(x, cosine, sine, positions);
  const std::int64_t rows = x.extent(0) * x.extent(1);
  with_shape(x.dtype(), vectors_of_pairs(pairs, x, weight, y, cosine, sine), x.extent(2) / 2,
             [&]<class T, int count, int lanes, int vectors>(T, Constant<count>, Constant<lanes>, Constant<vectors>) {
               forward_kernel<T, count, lanes, vectors>
                   <<<blocks_for(rows, block_threads / lanes), block_threads, 0, cuda_stream(context.stream)>>>(
                       static_cast<std::uint32_t>(rows), static_cast<float>(eps), pairs, rows_of<const T>(x),
                       weight.data<T>(), rows_of<T>(y), inverse_rms.data<float>());
             });
  check_cuda(cudaGetLastError(), "the head norm and rotary kernel");
}

void head_norm_rotary_backward(const OperatorContext& context, ConstView x, ConstView weight, ConstView inverse_rms,
                               ConstView cosine, ConstView sine, ConstView positions, View gradient,
                               View weight_gradient) {
  if (x.size() == 0) return;
  const Pairs pairs = pairs_of(x, cosine, sine, positions);
  const std::int64_t rows = x.extent(0) * x.extent(1), width = x.extent(2);
  with_shape(x.dtype(), vectors_of_pairs(pairs, x, weight, gradient, cosine, sine), width / 2,
             [&]<class T, int count, int lanes, int vectors>(T, Constant<count>, Constant<lanes>, Constant<vectors>) {
               const std::int64_t chunk_rows = chunk_rows_of(rows, block_threads / lanes);
               const std::int64_t chunks = ceil_divide(rows, chunk_rows);
               const Tensor partials = context.arena->tensor(DType::f32, {chunks, width}, Label::workspace);
               backward_kernel<T, count, lanes, vectors>
                   <<<static_cast<unsigned>(chunks), block_threads, 0, cuda_stream(context.stream)>>>(
                       static_cast<std::uint32_t>(rows), static_cast<std::uint32_t>(chunk_rows), pairs,
                       rows_of<const T>(x), weight.data<T>(), inverse_rms.data<float>(), rows_of<T>(gradient),
                       partials.view().data<float>());
               check_cuda(cudaGetLastError(), "the head norm and rotary backward kernel");
               add_partial_sums(context, partials, weight_gradient);
             });
}

}  // namespace moesaic::cuda
