#include "moesaic/kernels/swiglu.hpp"

#include "exponential.hpp"
#include "parallel.hpp"
#include "rows.hpp"
#include "scalar_dispatch.hpp"

namespace moesaic::reference {
namespace {

/// An exponential costs about this many multiplications.
constexpr std::int64_t exponential_cost = 8;

template <class T> T sigmoid(T z) { return T(1) / (T(1) + exponential(-z)); }

template <class T> void forward_row(const T* gate, const T* up, std::int64_t width, T* y) {
#pragma omp simd
  for (std::int64_t i = 0; i < width; ++i) y[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

/// With s = sigmoid(gate): d silu(gate) / d gate = s (1 + gate (1 - s)).
template <class T>
void backward_row(const T* gate, const T* up, const T* output_gradient, std::int64_t width, T* gate_gradient,
                  T* up_gradient) {
#pragma omp simd
  for (std::int64_t i = 0; i < width; ++i) {
    const T g = gate[i], u = up[i], dy = output_gradient[i], s = sigmoid(g);
    gate_gradient[i] = dy * u * s * (T(1) + g * (T(1) - s));
    up_gradient[i] = dy * g * s;
  }
}

}  // namespace

void swiglu_forward(const OperatorContext&, ConstView gate_up, View y) {
  MOESAIC_EXPECT(gate_up.extent(0) == y.extent(0) && gate_up.extent(1) == 2 * y.extent(1));
  with_scalar("swiglu_forward", y.dtype(), [&]<class T>(std::type_identity<T>) {
    const Rows<const T> in(gate_up);
    const Rows<T> out(y);
    const std::int64_t width = out.width();
    parallel_for(out.count(), exponential_cost * width,
                 [&](std::int64_t row) { forward_row(in[row], in[row] + width, width, out[row]); });
  });
}

void swiglu_backward(const OperatorContext&, ConstView gate_up, ConstView output_gradient, View gate_up_gradient) {
  MOESAIC_EXPECT(gate_up.extents() == gate_up_gradient.extents());
  MOESAIC_EXPECT(gate_up.extent(0) == output_gradient.extent(0) && gate_up.extent(1) == 2 * output_gradient.extent(1));
  with_scalar("swiglu_backward", gate_up.dtype(), [&]<class T>(std::type_identity<T>) {
    const Rows<const T> in(gate_up), dy(output_gradient);
    const Rows<T> out(gate_up_gradient);
    const std::int64_t width = dy.width();
    parallel_for(dy.count(), exponential_cost * width, [&](std::int64_t row) {
      backward_row(in[row], in[row] + width, dy[row], width, out[row], out[row] + width);
    });
  });
}

}  // namespace moesaic::reference
