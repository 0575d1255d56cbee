#include "moesaic/kernels/gemm.hpp"

#include <gtest/gtest.h>
#include <omp.h>

#include <vector>

#include "support/host_context.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

HostContext context;

Extents stored(Transpose transpose, std::int64_t rows, std::int64_t columns) {
  return transpose == Transpose::yes ? Extents{columns, rows} : Extents{rows, columns};
}
double at(ConstView matrix, Transpose transpose, std::int64_t i, std::int64_t j) {
  if (transpose == Transpose::yes) std::swap(i, j);
  return element(matrix, i * matrix.extent(1) + j);
}

/// The definition, in double.
HostTensor product(Transpose ta, Transpose tb, double alpha, ConstView a, ConstView b, double beta, ConstView c) {
  HostTensor result(DType::f64, c.extents());
  const std::int64_t m = c.extent(0), n = c.extent(1), k = a.extent(ta == Transpose::yes ? 0 : 1);
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::int64_t l = 0; l < k; ++l) sum += at(a, ta, i, l) * at(b, tb, l, j);
      set_element(result, i * n + j, alpha * sum + (beta == 0 ? 0 : beta * element(c, i * n + j)));
    }
  }
  return result;
}

TEST(Gemm, LiteralOfTwoByTwo) {
  const HostTensor a = make_tensor(DType::f32, {2, 3}, {1, 2, 3, 4, 5, 6});
  const HostTensor b = make_tensor(DType::f32, {3, 2}, {1, 0, 0, 1, 1, 1});
  HostTensor c = make_tensor(DType::f32, {2, 2}, {1, 1, 1, 1});
  reference::gemm(context, Transpose::no, Transpose::no, 2, a, b, 10, c);
  EXPECT_EQ(elements(c), (std::vector<double>{18, 20, 30, 32}));
}

struct GemmCase {
  std::int64_t m, n, k;
};

class GemmSizes : public ::testing::TestWithParam<GemmCase> {};

TEST_P(GemmSizes, AgreesWithTheDefinitionInAllForms) {
  const auto [m, n, k] = GetParam();
  for (const DType type : {DType::f32, DType::f64}) {
    for (const Transpose ta : {Transpose::no, Transpose::yes}) {
      for (const Transpose tb : {Transpose::no, Transpose::yes}) {
        for (const double beta : {0.0, 1.0}) {
          const HostTensor a = random_tensor(type, stored(ta, m, k), 1), b = random_tensor(type, stored(tb, k, n), 2);
          HostTensor c = random_tensor(type, {m, n}, 3);
          if (beta == 0) poison(c);
          const HostTensor expected = product(ta, tb, 0.5, a, b, beta, c);
          reference::gemm(context, ta, tb, 0.5, a, b, beta, c);
          EXPECT_LE(max_difference(c, expected),
                    type == DType::f32 ? 4e-6 * static_cast<double>(k + 1) : 1e-13 * static_cast<double>(k + 1))
              << name_of(type) << (ta == Transpose::yes) << (tb == Transpose::yes) << " beta " << beta;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, GemmSizes,
                         ::testing::Values(GemmCase{0, 3, 2}, GemmCase{3, 0, 2}, GemmCase{3, 2, 0}, GemmCase{1, 1, 1},
                                           GemmCase{131, 1, 131}, GemmCase{1, 131, 17}, GemmCase{131, 131, 33},
                                           GemmCase{257, 8, 128}, GemmCase{8, 128, 300}, GemmCase{300, 520, 3}));

TEST(Gemm, TakesStridedRowsAndLeavesTheGapsAlone) {
  HostTensor wide_a = random_tensor(DType::f32, {7, 20}, 1), wide_b = random_tensor(DType::f32, {5, 20}, 2);
  HostTensor wide_c = random_tensor(DType::f32, {7, 9}, 3);
  const HostTensor before = wide_c;
  const View a = wide_a.view().slice(1, 3, 14), b = wide_b.view().slice(1, 9, 20), c = wide_c.view().slice(1, 2, 7);
  const HostTensor expected = product(Transpose::no, Transpose::yes, 1, a, b, 1, c);
  reference::gemm(context, Transpose::no, Transpose::yes, 1, a, b, 1, c);
  EXPECT_LT(max_difference(c, expected), 1e-5);
  EXPECT_EQ(max_difference(wide_c.view().slice(1, 0, 2), before.view().slice(1, 0, 2)), 0);
  EXPECT_EQ(max_difference(wide_c.view().slice(1, 7, 9), before.view().slice(1, 7, 9)), 0);
}

TEST(Gemm, RefusesBf16) {
  const HostTensor a(DType::bf16, {2, 2}), b(DType::bf16, {2, 2});
  HostTensor c(DType::f32, {2, 2});
  EXPECT_THROW(reference::gemm(context, Transpose::no, Transpose::no, 1, a, b, 0, c), ContractError);
}

TEST(Gemm, BitsDoNotDependOnTheNumberOfThreads) {
  const HostTensor a = random_tensor(DType::f32, {700, 517}, 1), b = random_tensor(DType::f32, {131, 517}, 2);
  const int threads = omp_get_max_threads();
  HostTensor one(DType::f32, {700, 131}), three(DType::f32, {700, 131});
  omp_set_num_threads(1);
  reference::gemm(context, Transpose::no, Transpose::yes, 1, a, b, 0, one);
  omp_set_num_threads(3);
  reference::gemm(context, Transpose::no, Transpose::yes, 1, a, b, 0, three);
  omp_set_num_threads(threads);
  EXPECT_EQ(max_difference(one, three), 0);
}

/// Rows of each expert: none, one, many; and all rows to one of them.
class GroupedGemmRows : public ::testing::TestWithParam<std::vector<double>> {
 protected:
  static constexpr std::int64_t n = 13, k = 11;
  HostTensor offsets() const {
    return make_tensor(DType::i64, {static_cast<std::int64_t>(GetParam().size())}, GetParam());
  }
  std::int64_t experts() const { return static_cast<std::int64_t>(GetParam().size()) - 1; }
  std::int64_t offset(std::int64_t expert) const {
    return static_cast<std::int64_t>(GetParam()[static_cast<std::size_t>(expert)]);
  }
  std::int64_t rows() const { return offset(experts()); }
};

View expert_matrix(View weights, std::int64_t expert) {
  return weights.rows(expert, expert + 1).reshape({weights.extent(1), weights.extent(2)});
}

TEST_P(GroupedGemmRows, ForwardAndInputGradient) {
  HostTensor weights = random_tensor(DType::f64, {experts(), n, k}, 1);
  for (const Transpose transpose : {Transpose::yes, Transpose::no}) {
    const std::int64_t in_width = transpose == Transpose::yes ? k : n, out_width = n + k - in_width;
    HostTensor in = random_tensor(DType::f64, {rows() + 2, in_width}, 2), out(DType::f64, {rows() + 2, out_width});
    poison(out);
    set_element(out, rows() * out_width, 7);
    reference::grouped_gemm(context, transpose, in, weights, offsets(), out);
    for (std::int64_t e = 0; e < experts(); ++e) {
      const View part = out.view().rows(offset(e), offset(e + 1));
      const HostTensor expected = product(Transpose::no, transpose, 1, in.view().rows(offset(e), offset(e + 1)),
                                          expert_matrix(weights, e), 0, part);
      EXPECT_LT(max_difference(part, expected), 1e-13);
    }
    EXPECT_EQ(element(out, rows() * out_width), 7) << "rows past the last expert's are left alone";
  }
}

TEST_P(GroupedGemmRows, WeightGradient) {
  HostTensor in = random_tensor(DType::f64, {rows() + 2, k}, 1), dy = random_tensor(DType::f64, {rows() + 2, n}, 2);
  for (const double beta : {0.0, 1.0}) {
    HostTensor gradient = random_tensor(DType::f64, {experts(), n, k}, 3), before = gradient;
    if (beta == 0) poison(gradient);
    reference::grouped_gemm_weight_gradient(context, dy, in, offsets(), beta, gradient);
    for (std::int64_t e = 0; e < experts(); ++e) {
      const HostTensor expected = product(Transpose::yes, Transpose::no, 1, dy.view().rows(offset(e), offset(e + 1)),
                                          in.view().rows(offset(e), offset(e + 1)), beta, expert_matrix(before, e));
      EXPECT_LT(max_difference(expert_matrix(gradient, e), expected), 1e-12) << "expert " << e << " beta " << beta;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, GroupedGemmRows,
                         ::testing::Values(std::vector<double>{0, 0}, std::vector<double>{0, 3, 3, 4, 20},
                                           std::vector<double>{0, 0, 0, 131, 131},
                                           std::vector<double>{0, 300, 301, 1000}));

}  // namespace
}  // namespace moesaic
