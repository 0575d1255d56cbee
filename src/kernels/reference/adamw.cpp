#include "moesaic/kernels/adamw.hpp"
#include "moesaic/kernels/elementwise.hpp"

#include <cmath>

#include "parallel.hpp"
#include "scalar_dispatch.hpp"

namespace moesaic::reference {
namespace {

constexpr std::int64_t chunk_size = 16384;
/// A square root and a division cost about this many multiplications.
constexpr std::int64_t cost_per_element = 8;

inline float load(float value) { return value; }
inline double load(double value) { return value; }
inline float load(bf16 value) { return to_float(value); }
inline void store(float& to, float value) { to = value; }
inline void store(double& to, double value) { to = value; }
inline void store(bf16& to, float value) { to = to_bf16(value); }

/// The step's constants, computed in double and rounded once.
template <class T> struct Constants {
  explicit Constants(const AdamwStep& step)
      : gradient_scale(static_cast<T>(step.gradient_scale)), decay(static_cast<T>(1 - step.lr * step.weight_decay)),
        beta1(static_cast<T>(step.beta1)), one_minus_beta1(static_cast<T>(1 - step.beta1)),
        beta2(static_cast<T>(step.beta2)), one_minus_beta2(static_cast<T>(1 - step.beta2)),
        step_size(static_cast<T>(step.lr / (1 - std::pow(step.beta1, static_cast<double>(step.step))))),
        root_correction(static_cast<T>(1 / std::sqrt(1 - std::pow(step.beta2, static_cast<double>(step.step))))),
        eps(static_cast<T>(step.eps)) {}

  T gradient_scale, decay, beta1, one_minus_beta1, beta2, one_minus_beta2, step_size, root_correction, eps;
};

template <class T, class Moment>
void update(const Constants<T>& k, std::int64_t size, const T* gradient, T* parameters, Moment* first, Moment* second) {
#pragma omp simd
  for (std::int64_t i = 0; i < size; ++i) {
    const T g = k.gradient_scale * gradient[i];
    const T m = k.beta1 * load(first[i]) + k.one_minus_beta1 * g;
    const T v = k.beta2 * load(second[i]) + k.one_minus_beta2 * g * g;
    parameters[i] = parameters[i] * k.decay - k.step_size * (m / (std::sqrt(v) * k.root_correction + k.eps));
    store(first[i], m);
    store(second[i], v);
  }
}

template <class T, class Moment>
void update_all(const AdamwStep& step, ConstView gradient, View parameters, View first_moment, View second_moment) {
  const Constants<T> constants(step);
  parallel_chunks(parameters.size(), chunk_size, cost_per_element,
                  [&](std::int64_t, std::int64_t begin, std::int64_t end) {
                    update(constants, end - begin, gradient.data<T>() + begin, parameters.data<T>() + begin,
                           first_moment.data<Moment>() + begin, second_moment.data<Moment>() + begin);
                  });
}

}  // namespace

void adamw(const OperatorContext& context, const AdamwStep& step, ConstView gradient, View parameters,
           View first_moment, View second_moment, View rounded) {
  MOESAIC_EXPECT(gradient.size() == parameters.size() && first_moment.size() == parameters.size());
  MOESAIC_EXPECT(first_moment.dtype() == second_moment.dtype() && second_moment.size() == parameters.size());
  MOESAIC_EXPECT(step.step >= 1);
  with_scalar("adamw", parameters.dtype(), [&]<class T>(std::type_identity<T>) {
    if (std::is_same_v<T, float> && first_moment.dtype() == DType::bf16) {
      update_all<float, bf16>(step, gradient, parameters, first_moment, second_moment);
    } else {
      update_all<T, T>(step, gradient, parameters, first_moment, second_moment);
    }
  });
  if (!rounded.absent()) copy(context, parameters, rounded);
}

}  // namespace moesaic::reference
