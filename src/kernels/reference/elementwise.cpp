#include "moesaic/kernels/elementwise.hpp"

#include <algorithm>
#include <cstring>

#include "parallel.hpp"
#include "scalar_dispatch.hpp"

namespace moesaic::reference {
namespace {

/// Elements that one thread handles, and that one partial sum covers.
constexpr std::int64_t chunk_size = 16384;

template <class T> T load(T value) { return value; }
inline float load(bf16 value) { return to_float(value); }

template <class T, class Value> T converted(Value value) {
  if constexpr (std::is_same_v<T, bf16>)
    return to_bf16(static_cast<float>(value));
  else
    return static_cast<T>(value);
}

/// Distance (in elements) of row number `row`, counted through all dimensions but the last, from the start of a view.
template <class Void> std::int64_t row_offset(const BasicView<Void>& view, std::int64_t row) {
  std::int64_t offset = 0;
  for (int i = view.rank() - 2; i >= 0; --i) {
    offset += row % view.extent(i) * view.stride(i);
    row /= view.extent(i);
  }
  return offset;
}

/// body(out pointer, in pointer, number of elements) for the rows of two views of the same shape.
template <class In, class Out, class Body> void for_row_pairs(ConstView in, View out, const Body& body) {
  MOESAIC_EXPECT(in.extents() == out.extents());
  if (in.size() == 0) return;
  const std::int64_t width = in.extent(in.rank() - 1);
  parallel_for(in.size() / width, width, [&](std::int64_t row) {
    body(out.data<Out>() + row_offset(out, row), in.data<In>() + row_offset(in, row), width);
  });
}

/// body(out pointer, in pointer, number of elements) for chunks of two views of any floating-point types.
template <class Body> void for_chunk_pairs(const char* name, ConstView in, View out, const Body& body) {
  MOESAIC_EXPECT(in.size() == out.size());
  with_floating(name, in.dtype(), [&]<class In>(std::type_identity<In>) {
    with_floating(name, out.dtype(), [&]<class Out>(std::type_identity<Out>) {
      if (!in.contiguous() || !out.contiguous()) return for_row_pairs<In, Out>(in, out, body);
      const In* from = in.data<In>();
      Out* to = out.data<Out>();
      parallel_chunks(in.size(), chunk_size, 1, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
        body(to + begin, from + begin, end - begin);
      });
    });
  });
}

void add_counts(ConstView in, View out) {
  MOESAIC_EXPECT(in.size() == out.size() && in.contiguous() && out.contiguous());
  const auto* from = in.data<std::int64_t>();
  auto* to = out.data<std::int64_t>();
  for (std::int64_t i = 0; i < in.size(); ++i) to[i] += from[i];
}

template <class In, class Term> double partial_sum(const In* x, std::int64_t size, const Term& term) {
  double total = 0;
#pragma omp simd reduction(+ : total)
  for (std::int64_t i = 0; i < size; ++i) total += term(static_cast<double>(load(x[i])));
  return total;
}

/// Sum of term(x) over all elements, in f64: partial sums of fixed chunks, added in order.
template <class Term> void sum_terms(const OperatorContext& context, ConstView values, View result, const Term& term) {
  MOESAIC_EXPECT(values.contiguous() && result.size() == 1);
  const std::int64_t chunks = (values.size() + chunk_size - 1) / chunk_size;
  const Tensor scratch = context.arena->tensor(DType::f64, {chunks}, Label::workspace);
  double* partial = scratch.view().data<double>();
  with_floating("sum", values.dtype(), [&]<class In>(std::type_identity<In>) {
    const In* x = values.data<In>();
    parallel_chunks(values.size(), chunk_size, 1, [&](std::int64_t chunk, std::int64_t begin, std::int64_t end) {
      partial[chunk] = partial_sum(x + begin, end - begin, term);
    });
  });
  double total = 0;
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) total += partial[chunk];
  *result.data<double>() = total;
}

}  // namespace

void fill(const OperatorContext&, double value, View values) {
  MOESAIC_EXPECT(values.contiguous());
  if (values.dtype() == DType::i64) {  // counts: short
    std::fill_n(values.data<std::int64_t>(), values.size(), static_cast<std::int64_t>(value));
    return;
  }
  with_floating("fill", values.dtype(), [&]<class T>(std::type_identity<T>) {
    T* x = values.data<T>();
    parallel_chunks(values.size(), chunk_size, 1, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
      std::fill(x + begin, x + end, converted<T>(value));
    });
  });
}

void copy(const OperatorContext&, ConstView in, View out) {
  for_chunk_pairs("copy", in, out, []<class Out, class In>(Out* to, const In* from, std::int64_t size) {
    if constexpr (std::is_same_v<Out, In>) {
      std::memmove(to, from, static_cast<std::size_t>(size) * sizeof(In));
    } else {
#pragma omp simd
      for (std::int64_t i = 0; i < size; ++i) to[i] = converted<Out>(load(from[i]));
    }
  });
}

void accumulate(const OperatorContext&, ConstView in, View out) {
  if (out.dtype() == DType::i64) return add_counts(in, out);
  for_chunk_pairs("accumulate", in, out, []<class Out, class In>(Out* to, const In* from, std::int64_t size) {
    using Sum = decltype(load(Out{}) + load(In{}));
#pragma omp simd
    for (std::int64_t i = 0; i < size; ++i)
      to[i] = converted<Out>(static_cast<Sum>(load(to[i])) + static_cast<Sum>(load(from[i])));
  });
}

void scale(const OperatorContext&, double factor, View values) {
  MOESAIC_EXPECT(values.contiguous());
  with_floating("scale", values.dtype(), [&]<class T>(std::type_identity<T>) {
    T* x = values.data<T>();
    using Factor = decltype(load(T{}));
    parallel_chunks(values.size(), chunk_size, 1, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) x[i] = converted<T>(load(x[i]) * static_cast<Factor>(factor));
    });
  });
}

void sum_of_squares(const OperatorContext& context, ConstView values, View result) {
  sum_terms(context, values, result, [](double x) { return x * x; });
}

void sum(const OperatorContext& context, ConstView values, View result) {
  sum_terms(context, values, result, [](double x) { return x; });
}

}  // namespace moesaic::reference
