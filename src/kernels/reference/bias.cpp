#include "moesaic/kernels/bias.hpp"

#include <algorithm>
#include <array>

#include "parallel.hpp"
#include "rows.hpp"
#include "scalar_dispatch.hpp"

namespace moesaic::reference {
namespace {

/// Columns that one thread sums, and rows that are summed on their own before they join the rest.
constexpr std::int64_t block_columns = 64, chunk_rows = 128;

/// Which rows belong to which bias.
class Groups {
 public:
  Groups(ConstView offsets, std::int64_t rows) : all_{0, rows} {
    if (offsets.absent()) return;
    begin_ = offsets.data<std::int64_t>();
    count_ = offsets.size() - 1;
    MOESAIC_EXPECT(begin_[count_] <= rows);
  }

  std::int64_t count() const { return count_; }
  std::int64_t begin(std::int64_t group) const { return offsets()[group]; }
  std::int64_t end(std::int64_t group) const { return offsets()[group + 1]; }
  /// Rows from here on belong to none.
  std::int64_t rows() const { return offsets()[count_]; }
  std::int64_t of_row(std::int64_t row) const {
    return std::upper_bound(offsets(), offsets() + count_ + 1, row) - offsets() - 1;
  }

 private:
  const std::int64_t* offsets() const { return begin_ == nullptr ? all_.data() : begin_; }

  std::array<std::int64_t, 2> all_;  ///< the offsets of one group
  const std::int64_t* begin_ = nullptr;
  std::int64_t count_ = 1;
};

/// sum [size] += columns [first, first + size) of rows [begin, end).
template <class T>
void add_columns(const Rows<const T>& rows, std::int64_t begin, std::int64_t end, std::int64_t first, std::int64_t size,
                 T* sum) {
  for (std::int64_t chunk = begin; chunk < end; chunk += chunk_rows) {
    std::array<T, block_columns> part{};
    for (std::int64_t row = chunk; row < std::min(end, chunk + chunk_rows); ++row) {
      const T* x = rows[row] + first;
#pragma omp simd
      for (std::int64_t i = 0; i < size; ++i) part[static_cast<std::size_t>(i)] += x[i];
    }
#pragma omp simd
    for (std::int64_t i = 0; i < size; ++i) sum[i] += part[static_cast<std::size_t>(i)];
  }
}

}  // namespace

void add_bias(const OperatorContext&, ConstView bias, ConstView offsets, View rows) {
  const Groups groups(offsets, rows.extent(0));
  MOESAIC_EXPECT(bias.size() == groups.count() * rows.extent(1) && bias.contiguous());
  with_scalar("add_bias", rows.dtype(), [&]<class T>(std::type_identity<T>) {
    const Rows<T> out(rows);
    const std::int64_t width = out.width();
    parallel_for(groups.rows(), width, [&](std::int64_t row) {
      const T* b = bias.data<T>() + groups.of_row(row) * width;
      T* x = out[row];
#pragma omp simd
      for (std::int64_t i = 0; i < width; ++i) x[i] += b[i];
    });
  });
}

void bias_gradient(const OperatorContext&, ConstView rows_gradient, ConstView offsets, View bias_gradient) {
  const Groups groups(offsets, rows_gradient.extent(0));
  const std::int64_t width = rows_gradient.extent(1), blocks = (width + block_columns - 1) / block_columns;
  MOESAIC_EXPECT(bias_gradient.size() == groups.count() * width && bias_gradient.contiguous());
  const std::int64_t items = groups.count() * blocks;
  if (items == 0) return;
  with_scalar("bias_gradient", rows_gradient.dtype(), [&]<class T>(std::type_identity<T>) {
    const Rows<const T> in(rows_gradient);
    parallel_for(items, groups.rows() * width / items, [&](std::int64_t item) {
      const std::int64_t group = item / blocks, first = item % blocks * block_columns;
      add_columns(in, groups.begin(group), groups.end(group), first, std::min(block_columns, width - first),
                  bias_gradient.data<T>() + group * width + first);
    });
  });
}

}  // namespace moesaic::reference
