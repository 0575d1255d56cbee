#include "moesaic/kernels/swiglu.hpp"

#include <cmath>

#include "exponential.hpp"
#include "parallel.hpp"
#include "rows.hpp"
#include "scalar_dispatch.hpp"

namespace moesaic::reference {
namespace {

/// An exponential costs about this many multiplications.
constexpr std::int64_t exponential_cost = 8;

template <class T> T sigmoid(T z) { return T(1) / (T(1) + exponential(-z)); }

/// The usual unit, silu(gate) up.
template <class T> struct Silu {
  T value(T gate, T up) const { return gate * sigmoid(gate) * up; }

  /// With s = sigmoid(gate): d silu(gate) / d gate = s (1 + gate (1 - s)).
  void differentiate(T gate, T up, T dy, T& gate_gradient, T& up_gradient) const {
    const T s = sigmoid(gate);
    gate_gradient = dy * up * s * (T(1) + gate * (T(1) - s));
    up_gradient = dy * gate * s;
  }
};

/// The unit with all its options.
template <class T> struct Clamped {
  explicit Clamped(const SwigluOptions& options)
      : alpha_(static_cast<T>(options.alpha)), limit_(static_cast<T>(options.limit)),
        up_offset_(static_cast<T>(options.up_offset)) {}

  T value(T gate, T up) const {
    const T g = bounded_above(gate);
    return g * sigmoid(alpha_ * g) * (bounded(up) + up_offset_);
  }

  /// With s = sigmoid(alpha g): d (g s) / d g = s (1 + alpha g (1 - s)).
  void differentiate(T gate, T up, T dy, T& gate_gradient, T& up_gradient) const {
    const T g = bounded_above(gate), u = bounded(up), s = sigmoid(alpha_ * g);
    const T along_gate = dy * (u + up_offset_) * s * (T(1) + alpha_ * g * (T(1) - s)), along_up = dy * g * s;
    gate_gradient = gate > limit_ ? T(0) : along_gate;
    up_gradient = up > limit_ || up < -limit_ ? T(0) : along_up;
  }

 private:
  // Comparisons rather than std::min and std::max: vectorised, and NaN stays NaN.
  T bounded_above(T x) const { return x > limit_ ? limit_ : x; }
  T bounded(T x) const { return x < -limit_ ? -limit_ : bounded_above(x); }

  T alpha_, limit_, up_offset_;
};

/// Calls body with the unit that the options describe.
template <class T, class Body> void with_unit(const SwigluOptions& options, const Body& body) {
  const bool usual = options.alpha == 1 && options.up_offset == 0 && std::isinf(options.limit);
  usual ? body(Silu<T>()) : body(Clamped<T>(options));
}

template <class T, class Unit>
void forward_row(const Unit& unit, const T* gate, const T* up, std::int64_t width, T* y) {
#pragma omp simd
  for (std::int64_t i = 0; i < width; ++i) y[i] = unit.value(gate[i], up[i]);
}

template <class T, class Unit>
void backward_row(const Unit& unit, const T* gate, const T* up, const T* output_gradient, std::int64_t width,
                  T* gate_gradient, T* up_gradient) {
#pragma omp simd
  for (std::int64_t i = 0; i < width; ++i) {
    T along_gate, along_up;
    unit.differentiate(gate[i], up[i], output_gradient[i], along_gate, along_up);
    gate_gradient[i] = along_gate;
    up_gradient[i] = along_up;
  }
}

template <class T> void forward(const SwigluOptions& options, ConstView gate_up, View y) {
  const Rows<const T> in(gate_up);
  const Rows<T> out(y);
  const std::int64_t width = out.width();
  with_unit<T>(options, [&](const auto& unit) {
    parallel_for(out.count(), exponential_cost * width,
                 [&](std::int64_t row) { forward_row(unit, in[row], in[row] + width, width, out[row]); });
  });
}

template <class T>
void backward(const SwigluOptions& options, ConstView gate_up, ConstView output_gradient, View gate_up_gradient) {
  const Rows<const T> in(gate_up), dy(output_gradient);
  const Rows<T> out(gate_up_gradient);
  const std::int64_t width = dy.width();
  with_unit<T>(options, [&](const auto& unit) {
    parallel_for(dy.count(), exponential_cost * width, [&](std::int64_t row) {
      backward_row(unit, in[row], in[row] + width, dy[row], width, out[row], out[row] + width);
    });
  });
}

}  // namespace

void swiglu_forward(const OperatorContext&, const SwigluOptions& options, ConstView gate_up, View y) {
  MOESAIC_EXPECT(gate_up.extent(0) == y.extent(0) && gate_up.extent(1) == 2 * y.extent(1));
  with_scalar("swiglu_forward", y.dtype(), [&]<class T>(std::type_identity<T>) { forward<T>(options, gate_up, y); });
}

void swiglu_backward(const OperatorContext&, const SwigluOptions& options, ConstView gate_up, ConstView output_gradient,
                     View gate_up_gradient) {
  MOESAIC_EXPECT(gate_up.extents() == gate_up_gradient.extents());
  MOESAIC_EXPECT(gate_up.extent(0) == output_gradient.extent(0) && gate_up.extent(1) == 2 * output_gradient.extent(1));
  with_scalar("swiglu_backward", gate_up.dtype(), [&]<class T>(std::type_identity<T>) {
    backward<T>(options, gate_up, output_gradient, gate_up_gradient);
  });
}

}  // namespace moesaic::reference
