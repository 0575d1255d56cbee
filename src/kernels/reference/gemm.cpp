#include "moesaic/kernels/gemm.hpp"

#include <vector>

#include "blas.hpp"
#include "parallel.hpp"
#include "scalar_dispatch.hpp"

namespace moesaic::reference {
namespace {

/// c [m, n] = alpha * op(a) op(b) + beta * c, with the distance between rows of each.
template <class T> struct Product {
  std::int64_t m, n, k;
  const T* a;
  std::int64_t stride_a;
  const T* b;
  std::int64_t stride_b;
  T* c;
  std::int64_t stride_c;
};

/// What the products of one operator have in common.
struct Form {
  Transpose transpose_a, transpose_b;
  double alpha = 1, beta = 0;
};

/// Parts of c that one thread computes at a time. They follow from the shapes alone, so that neither the pieces nor the
/// order of sums depend on the number of threads, as they do where OpenBLAS divides the work.
struct Tiling {
  std::int64_t rows = 256, columns = 512;

  std::int64_t across(std::int64_t n) const { return (n + columns - 1) / columns; }
  std::int64_t count(std::int64_t m, std::int64_t n) const { return (m + rows - 1) / rows * across(n); }
};

template <class T> std::int64_t count_tiles(const Tiling& tiling, const std::vector<Product<T>>& products) {
  std::int64_t count = 0;
  for (const Product<T>& p : products) count += tiling.count(p.m, p.n);
  return count;
}

/// Large tiles repack least; where there are too few of them they are cut.
template <class T> Tiling choose_tiling(const std::vector<Product<T>>& products) {
  constexpr std::int64_t enough = 4, least_rows = 64;
  Tiling tiling;
  while (tiling.rows > least_rows && count_tiles(tiling, products) < enough) tiling.rows /= 2;
  return tiling;
}

template <class T> void multiply_tile(const Form& form, const Product<T>& p, const Tiling& tiling, std::int64_t tile) {
  const std::int64_t across = tiling.across(p.n);
  const std::int64_t row = tile / across * tiling.rows, column = tile % across * tiling.columns;
  const std::int64_t m = std::min(tiling.rows, p.m - row), n = std::min(tiling.columns, p.n - column);
  const T* a = p.a + row * (form.transpose_a == Transpose::yes ? 1 : p.stride_a);
  const T* b = p.b + column * (form.transpose_b == Transpose::yes ? p.stride_b : 1);
  T* c = p.c + row * p.stride_c + column;
  blas_gemm(form.transpose_a, form.transpose_b, m, n, p.k, static_cast<T>(form.alpha), a, p.stride_a, b, p.stride_b,
            static_cast<T>(form.beta), c, p.stride_c);
}

template <class T> double multiplications(const std::vector<Product<T>>& products) {
  double sum = 0;
  for (const Product<T>& p : products)
    sum += static_cast<double>(p.m) * static_cast<double>(p.n) * static_cast<double>(p.k);
  return sum;
}

/// All products, tile by tile.
template <class T> void multiply(const Form& form, const std::vector<Product<T>>& products) {
  struct Tile {
    const Product<T>* product;
    std::int64_t number;
  };
  const Tiling tiling = choose_tiling(products);
  std::vector<Tile> tiles;
  for (const Product<T>& p : products)
    for (std::int64_t i = 0; i < tiling.count(p.m, p.n); ++i) tiles.push_back({&p, i});
  // Below this OpenBLAS starts no threads of its own; above it we are in a team, where it starts none either.
  constexpr double threading_work = 1 << 17;
  const auto count = static_cast<std::int64_t>(tiles.size());
#pragma omp parallel for schedule(dynamic) if (multiplications(products) >= threading_work)
  for (std::int64_t i = 0; i < count; ++i) {
    const Tile& tile = tiles[static_cast<std::size_t>(i)];
    multiply_tile(form, *tile.product, tiling, tile.number);
  }
}

/// products(e, first row, number of rows) for each expert.
template <class T, class MakeProduct>
std::vector<Product<T>> products_of_experts(ConstView offsets, const MakeProduct& make) {
  std::vector<Product<T>> products;
  const std::int64_t* offset = offsets.data<std::int64_t>();
  for (std::int64_t e = 0; e + 1 < offsets.size(); ++e)
    products.push_back(make(e, offset[e], offset[e + 1] - offset[e]));
  return products;
}

}  // namespace

void gemm(const OperatorContext&, Transpose transpose_a, Transpose transpose_b, double alpha, ConstView a, ConstView b,
          double beta, View c) {
  MOESAIC_EXPECT(a.rank() == 2 && b.rank() == 2 && c.rank() == 2);
  const std::int64_t k = a.extent(transpose_a == Transpose::yes ? 0 : 1);
  MOESAIC_EXPECT(b.extent(transpose_b == Transpose::yes ? 1 : 0) == k);
  MOESAIC_EXPECT(a.dtype() == b.dtype());
  with_scalar("gemm", a.dtype(), [&]<class T>(std::type_identity<T>) {
    multiply<T>({transpose_a, transpose_b, alpha, beta}, {{c.extent(0), c.extent(1), k, a.data<T>(), a.stride(0),
                                                           b.data<T>(), b.stride(0), c.data<T>(), c.stride(0)}});
  });
}

void grouped_gemm(const OperatorContext&, Transpose transpose_weights, ConstView in, ConstView weights,
                  ConstView offsets, View out) {
  MOESAIC_EXPECT(offsets.size() == weights.extent(0) + 1);
  MOESAIC_EXPECT(in.extent(1) == weights.extent(transpose_weights == Transpose::yes ? 2 : 1));
  MOESAIC_EXPECT(out.extent(1) == weights.extent(transpose_weights == Transpose::yes ? 1 : 2));
  with_scalar("grouped_gemm", in.dtype(), [&]<class T>(std::type_identity<T>) {
    const auto product = [&](std::int64_t expert, std::int64_t first, std::int64_t rows) {
      return Product<T>{rows,
                        out.extent(1),
                        in.extent(1),
                        in.data<T>() + first * in.stride(0),
                        in.stride(0),
                        weights.data<T>() + expert * weights.stride(0),
                        weights.stride(1),
                        out.data<T>() + first * out.stride(0),
                        out.stride(0)};
    };
    multiply<T>({Transpose::no, transpose_weights}, products_of_experts<T>(offsets, product));
  });
}

void grouped_gemm_weight_gradient(const OperatorContext&, ConstView output_gradient, ConstView in, ConstView offsets,
                                  double beta, View gradient) {
  MOESAIC_EXPECT(offsets.size() == gradient.extent(0) + 1);
  MOESAIC_EXPECT(gradient.extent(1) == output_gradient.extent(1) && gradient.extent(2) == in.extent(1));
  with_scalar("grouped_gemm_weight_gradient", in.dtype(), [&]<class T>(std::type_identity<T>) {
    const auto product = [&](std::int64_t expert, std::int64_t first, std::int64_t rows) {
      return Product<T>{gradient.extent(1),
                        gradient.extent(2),
                        rows,
                        output_gradient.data<T>() + first * output_gradient.stride(0),
                        output_gradient.stride(0),
                        in.data<T>() + first * in.stride(0),
                        in.stride(0),
                        gradient.data<T>() + expert * gradient.stride(0),
                        gradient.stride(1)};
    };
    multiply<T>({Transpose::yes, Transpose::no, 1, beta}, products_of_experts<T>(offsets, product));
  });
}

}  // namespace moesaic::reference
