#include "moesaic/kernels/embedding.hpp"

#include "moesaic/kernels/permutation.hpp"
#include "parallel.hpp"
#include "scalar_dispatch.hpp"

namespace moesaic::reference {
namespace {

/// Columns that one thread adds: four cache lines of floats.
constexpr std::int64_t column_block = 64;

template <class T>
void add_columns(ConstView ids, ConstView output_gradient, std::int64_t begin, std::int64_t end, View table_gradient) {
  const std::int32_t* id = ids.data<std::int32_t>();
  for (std::int64_t token = 0; token < ids.extent(0); ++token) {
    const T* row = output_gradient.data<T>() + token * output_gradient.stride(0);
    T* sum = table_gradient.data<T>() + id[token] * table_gradient.stride(0);
#pragma omp simd
    for (std::int64_t c = begin; c < end; ++c) sum[c] += row[c];
  }
}

}  // namespace

void embedding_forward(const OperatorContext& context, ConstView table, ConstView ids, View y) {
  gather_rows(context, table, ids, y);
}

void embedding_backward(const OperatorContext&, ConstView ids, ConstView output_gradient, View table_gradient) {
  with_scalar("embedding_backward", output_gradient.dtype(), [&]<class T>(std::type_identity<T>) {
    const std::int64_t width = output_gradient.extent(1);
    // Threads divide the columns, so each sum keeps the tokens' order.
    parallel_chunks(width, column_block, ids.extent(0), [&](std::int64_t, std::int64_t begin, std::int64_t end) {
      add_columns<T>(ids, output_gradient, begin, end, table_gradient);
    });
  });
}

}  // namespace moesaic::reference
