#include "moesaic/kernels/attention_merge.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "parallel.hpp"
#include "scalar_dispatch.hpp"

namespace moesaic::reference {
namespace {

/// What two partial results count for in their sum.
template <class T> struct Shares { T log_sum_exp, old_share, new_share; };

template <class T> Shares<T> shares_of(T old_log, T new_log) {
  constexpr T nothing = -std::numeric_limits<T>::infinity();
  if (old_log == nothing && new_log == nothing) return {nothing, 0, 0};
  const T largest = std::max(old_log, new_log);
  const T sum = largest + std::log(std::exp(old_log - largest) + std::exp(new_log - largest));
  return {sum, std::exp(old_log - sum), std::exp(new_log - sum)};
}

template <class T> void merge_row(const T* more, const Shares<T>& shares, std::int64_t width, T* out) {
  if (shares.old_share == 0) {  // out may hold anything
    for (std::int64_t i = 0; i < width; ++i) out[i] = shares.new_share * more[i];
    return;
  }
#pragma omp simd
  for (std::int64_t i = 0; i < width; ++i) out[i] = shares.old_share * out[i] + shares.new_share * more[i];
}

/// Where [i, j, k] (and what lies behind it) begins.
template <class T, class Void> T* at(const BasicView<Void>& x, std::int64_t i, std::int64_t j, std::int64_t k) {
  return x.template data<std::remove_const_t<T>>() + i * x.stride(0) + j * x.stride(1) + k * x.stride(2);
}

template <class T> void merge(ConstView more, ConstView more_log_sum_exp, View out, View log_sum_exp) {
  const std::int64_t queries = out.extent(1), heads = out.extent(2), width = out.extent(3);
  parallel_for(out.extent(0) * queries, heads * width, [&](std::int64_t item) {
    const std::int64_t b = item / queries, s = item % queries;
    for (std::int64_t a = 0; a < heads; ++a) {
      T& sum = *at<T>(log_sum_exp, b, a, s);
      const Shares<T> shares = shares_of(sum, *at<const T>(more_log_sum_exp, b, a, s));
      merge_row(at<const T>(more, b, s, a), shares, width, at<T>(out, b, s, a));
      sum = shares.log_sum_exp;
    }
  });
}

}  // namespace

void attention_merge(const OperatorContext&, ConstView more, ConstView more_log_sum_exp, View out, View log_sum_exp) {
  MOESAIC_EXPECT(more.extents() == out.extents() && more_log_sum_exp.extents() == log_sum_exp.extents());
  with_scalar("attention_merge", out.dtype(),
              [&]<class T>(std::type_identity<T>) { merge<T>(more, more_log_sum_exp, out, log_sum_exp); });
}

}  // namespace moesaic::reference
