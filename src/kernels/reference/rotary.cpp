#include "moesaic/kernels/rotary.hpp"

#include "parallel.hpp"
#include "scalar_dispatch.hpp"

namespace moesaic::reference {
namespace {

/// Turns the pairs (x[i], x[i + half]); `sign` -1 turns back.
template <class T> void rotate_halves(T* x, const T* cosine, const T* sine, std::int64_t half, T sign) {
#pragma omp simd
  for (std::int64_t i = 0; i < half; ++i) {
    const T a = x[i], b = x[i + half], c = cosine[i], s = sign * sine[i];
    x[i] = a * c - b * s;
    x[i + half] = b * c + a * s;
  }
}

/// Turns the pairs (x[2i], x[2i + 1]).
template <class T> void rotate_interleaved(T* x, const T* cosine, const T* sine, std::int64_t half, T sign) {
#pragma omp simd
  for (std::int64_t i = 0; i < half; ++i) {
    const T a = x[2 * i], b = x[2 * i + 1], c = cosine[i], s = sign * sine[i];
    x[2 * i] = a * c - b * s;
    x[2 * i + 1] = b * c + a * s;
  }
}

}  // namespace

void rotary(const OperatorContext&, View x, ConstView cosine, ConstView sine, ConstView positions, RotaryPairs pairs,
            RotaryDirection direction) {
  MOESAIC_EXPECT(x.rank() == 3 && positions.size() == x.extent(0));
  MOESAIC_EXPECT(x.extent(2) == 2 * cosine.extent(1) && cosine.extents() == sine.extents());
  const std::int64_t heads = x.extent(1), half = x.extent(2) / 2;
  with_scalar("rotary", x.dtype(), [&]<class T>(std::type_identity<T>) {
    const T sign = direction == RotaryDirection::forward ? T(1) : T(-1);
    const auto rotate = pairs == RotaryPairs::halves ? rotate_halves<T> : rotate_interleaved<T>;
    parallel_for(x.extent(0), heads * x.extent(2), [&](std::int64_t token) {
      const std::int64_t position = positions.data<std::int32_t>()[token];
      MOESAIC_EXPECT(0 <= position && position < cosine.extent(0));
      const T* c = cosine.data<T>() + position * cosine.stride(0);
      const T* s = sine.data<T>() + position * sine.stride(0);
      for (std::int64_t head = 0; head < heads; ++head)
        rotate(x.data<T>() + token * x.stride(0) + head * x.stride(1), c, s, half, sign);
    });
  });
}

}  // namespace moesaic::reference
