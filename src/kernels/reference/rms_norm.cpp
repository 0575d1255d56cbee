#include "moesaic/kernels/rms_norm.hpp"

#include <cmath>

#include "moesaic/kernels/elementwise.hpp"
#include "parallel.hpp"
#include "rows.hpp"
#include "scalar_dispatch.hpp"

namespace moesaic::reference {
namespace {

/// Rows whose weight gradients are summed in one go.
constexpr std::int64_t chunk_rows = 128;

/// In double: an error of the sum is one of the whole row, and does not average out in what is made of it.
template <class T> T normalise_row(const T* x, const T* weight, std::int64_t width, double eps, T* y) {
  const auto wide = [](T value) { return static_cast<double>(value); };
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < width; ++i) sum += wide(x[i]) * wide(x[i]);
  const double inverse_rms = 1 / std::sqrt(sum / static_cast<double>(width) + eps);
#pragma omp simd
  for (std::int64_t i = 0; i < width; ++i) y[i] = static_cast<T>(wide(x[i]) * inverse_rms * wide(weight[i]));
  return static_cast<T>(inverse_rms);
}

/// One row of both gradients; x_gradient may be output_gradient.
template <class T>
void row_gradients(const T* x, const T* weight, T inverse_rms, const T* output_gradient, std::int64_t width,
                   bool accumulate, T* x_gradient, T* weight_sum) {
  T product = 0;
#pragma omp simd reduction(+ : product)
  for (std::int64_t i = 0; i < width; ++i) product += output_gradient[i] * weight[i] * x[i];
  const T along_x = inverse_rms * inverse_rms * product / static_cast<T>(width);
#pragma omp simd
  for (std::int64_t i = 0; i < width; ++i) {
    const T dy = output_gradient[i];
    const T dx = inverse_rms * (dy * weight[i] - x[i] * along_x);
    weight_sum[i] += dy * x[i] * inverse_rms;
    x_gradient[i] = accumulate ? x_gradient[i] + dx : dx;
  }
}

template <class T> void add_partial_sums(const T* partial, std::int64_t chunks, std::int64_t width, T* sum) {
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) sum[i] += partial[chunk * width + i];
  }
}

template <class T>
void backward(const OperatorContext& context, ConstView x, ConstView weight, ConstView inverse_rms,
              ConstView output_gradient, bool accumulate, View x_gradient, View weight_gradient) {
  const Rows<const T> in(x), dy(output_gradient);
  const Rows<T> dx(x_gradient);
  const std::int64_t width = in.width(), chunks = (in.count() + chunk_rows - 1) / chunk_rows;
  const Tensor scratch = context.arena->tensor(dtype_of<T>::value, {chunks, width}, Label::workspace);
  T* partial = scratch.view().template data<T>();
  parallel_chunks(in.count(), chunk_rows, width, [&](std::int64_t chunk, std::int64_t begin, std::int64_t end) {
    T* weight_sum = partial + chunk * width;
    std::fill_n(weight_sum, width, T(0));
    for (std::int64_t row = begin; row < end; ++row)
      row_gradients(in[row], weight.data<T>(), inverse_rms.data<T>()[row], dy[row], width, accumulate, dx[row],
                    weight_sum);
  });
  add_partial_sums(partial, chunks, width, weight_gradient.data<T>());
}

}  // namespace

void rms_norm_forward(const OperatorContext&, ConstView x, ConstView weight, double eps, View y, View inverse_rms) {
  MOESAIC_EXPECT(x.extents() == y.extents() && weight.size() == x.extent(x.rank() - 1));
  if (x.size() == 0) return;
  with_scalar("rms_norm_forward", x.dtype(), [&]<class T>(std::type_identity<T>) {
    const Rows<const T> in(x);
    const Rows<T> out(y);
    parallel_for(in.count(), in.width(), [&](std::int64_t row) {
      inverse_rms.data<T>()[row] = normalise_row(in[row], weight.data<T>(), in.width(), eps, out[row]);
    });
  });
}

void rms_norm_residual_forward(const OperatorContext& context, ConstView residual, ConstView weight, double eps, View x,
                               View y, View inverse_rms) {
  accumulate(context, residual, x);
  rms_norm_forward(context, x, weight, eps, y, inverse_rms);
}

void rms_norm_backward(const OperatorContext& context, ConstView x, ConstView weight, ConstView inverse_rms,
                       ConstView output_gradient, double beta, View x_gradient, View weight_gradient) {
  MOESAIC_EXPECT(x.extents() == output_gradient.extents() && x.extents() == x_gradient.extents());
  MOESAIC_EXPECT(beta == 0 || beta == 1);
  if (x.size() == 0) return;
  with_scalar("rms_norm_backward", x.dtype(), [&]<class T>(std::type_identity<T>) {
    backward<T>(context, x, weight, inverse_rms, output_gradient, beta != 0, x_gradient, weight_gradient);
  });
}

}  // namespace moesaic::reference
