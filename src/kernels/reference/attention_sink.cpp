#include "moesaic/kernels/attention_sink.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "parallel.hpp"
#include "scalar_dispatch.hpp"

namespace moesaic::reference {
namespace {

// There is one exponential a query and head, and a sum over all queries in which much cancels: doubles for all of it.

constexpr double infinity = std::numeric_limits<double>::infinity();

/// log(exp(a) + exp(b)), of which either may be -inf.
double log_of_sum(double a, double b) {
  const double largest = std::max(a, b);
  return largest == -infinity ? largest : largest + std::log1p(std::exp(std::min(a, b) - largest));
}

/// exp(x - sum), where the share of nothing at all is 0.
double share_of(double x, double sum) { return x == -infinity ? 0 : std::exp(x - sum); }

template <class T> double product(const T* a, const T* b, std::int64_t width) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < width; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

/// Where [i, j, k] (and what lies behind it) begins.
template <class T, class Void> T* at(const BasicView<Void>& x, std::int64_t i, std::int64_t j, std::int64_t k) {
  return x.template data<std::remove_const_t<T>>() + i * x.stride(0) + j * x.stride(1) + k * x.stride(2);
}

template <class T> void add_sinks(ConstView sinks, View out, View log_sum_exp) {
  const std::int64_t queries = out.extent(1), heads = out.extent(2), width = out.extent(3);
  parallel_for(out.extent(0) * queries, heads * width, [&](std::int64_t item) {
    const std::int64_t b = item / queries, s = item % queries;
    for (std::int64_t a = 0; a < heads; ++a) {
      T& sum = *at<T>(log_sum_exp, b, a, s);
      const double alone = static_cast<double>(sum);
      const double with_sink = log_of_sum(alone, static_cast<double>(sinks.data<T>()[a]));
      const T share = static_cast<T>(share_of(alone, with_sink));
      T* row = at<T>(out, b, s, a);
#pragma omp simd
      for (std::int64_t i = 0; i < width; ++i) row[i] *= share;
      sum = static_cast<T>(with_sink);
    }
  });
}

template <class T>
double head_gradient(double sink, std::int64_t a, ConstView out, ConstView log_sum_exp, ConstView out_gradient) {
  double sum = 0;
  for (std::int64_t b = 0; b < out.extent(0); ++b)
    for (std::int64_t s = 0; s < out.extent(1); ++s)
      sum += share_of(sink, static_cast<double>(*at<const T>(log_sum_exp, b, a, s))) *
             product(at<const T>(out_gradient, b, s, a), at<const T>(out, b, s, a), out.extent(3));
  return -sum;
}

}  // namespace

void attention_sink(const OperatorContext&, ConstView sinks, View out, View log_sum_exp) {
  MOESAIC_EXPECT(sinks.size() == out.extent(2) && log_sum_exp.extent(1) == out.extent(2));
  MOESAIC_EXPECT(log_sum_exp.extent(0) == out.extent(0) && log_sum_exp.extent(2) == out.extent(1));
  with_scalar("attention_sink", out.dtype(),
              [&]<class T>(std::type_identity<T>) { add_sinks<T>(sinks, out, log_sum_exp); });
}

void attention_sink_backward(const OperatorContext&, ConstView sinks, ConstView out, ConstView log_sum_exp,
                             ConstView out_gradient, View sinks_gradient) {
  MOESAIC_EXPECT(out_gradient.extents() == out.extents() && sinks.size() == out.extent(2));
  MOESAIC_EXPECT(sinks_gradient.size() == sinks.size());
  with_scalar("attention_sink_backward", out.dtype(), [&]<class T>(std::type_identity<T>) {
    parallel_for(out.extent(2), out.extent(0) * out.extent(1) * out.extent(3), [&](std::int64_t a) {
      sinks_gradient.data<T>()[a] +=
          static_cast<T>(head_gradient<T>(static_cast<double>(sinks.data<T>()[a]), a, out, log_sum_exp, out_gradient));
    });
  });
}

}  // namespace moesaic::reference
