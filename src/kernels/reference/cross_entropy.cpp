#include "moesaic/kernels/cross_entropy.hpp"

#include "parallel.hpp"
#include "scalar_dispatch.hpp"
#include "softmax_row.hpp"

#include <algorithm>
#include <cmath>

namespace moesaic::reference {
namespace {

/// log sum exp(x): the largest element is taken out first, so nothing overflows.
template <class T> T log_sum_exp_of(const T* x, std::int64_t width) {
  const T largest = row_max(x, width);
  return static_cast<T>(static_cast<double>(largest) + std::log(sum_of_exponentials(x, largest, width)));
}

template <class T> void row_gradient(T* logits, std::int64_t width, std::int32_t label, T log_sum_exp, T scale) {
  if (label < 0) {
    std::fill_n(logits, width, T(0));
    return;
  }
  scaled_exponentials(logits, log_sum_exp, scale, width, logits);
  logits[label] -= scale;
}

}  // namespace

void cross_entropy_forward(const OperatorContext&, ConstView logits, ConstView labels, View losses, View log_sum_exp) {
  with_scalar("cross_entropy_forward", logits.dtype(), [&]<class T>(std::type_identity<T>) {
    const std::int64_t tokens = logits.extent(0), vocabulary = logits.extent(1);
    const std::int32_t* label = labels.data<std::int32_t>();
    parallel_for(tokens, 2 * vocabulary, [&](std::int64_t t) {
      const T* row = logits.data<T>() + t * logits.stride(0);
      const T value = log_sum_exp_of(row, vocabulary);
      log_sum_exp.data<T>()[t] = value;
      losses.data<T>()[t] = label[t] < 0 ? T(0) : value - row[label[t]];
    });
  });
}

void cross_entropy_backward(const OperatorContext&, View logits, ConstView labels, ConstView log_sum_exp,
                            double scale) {
  with_scalar("cross_entropy_backward", logits.dtype(), [&]<class T>(std::type_identity<T>) {
    const std::int64_t tokens = logits.extent(0), vocabulary = logits.extent(1);
    parallel_for(tokens, vocabulary, [&](std::int64_t t) {
      row_gradient(logits.data<T>() + t * logits.stride(0), vocabulary, labels.data<std::int32_t>()[t],
                   log_sum_exp.data<T>()[t], static_cast<T>(scale));
    });
  });
}

}  // namespace moesaic::reference
