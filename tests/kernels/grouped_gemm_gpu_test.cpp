#include "moesaic/kernels/gemm.hpp"

#include "support/gpu.hpp"
#include "support/random.hpp"

#include <numeric>
#include <vector>

namespace moesaic {
namespace {

/// Rows of each expert, in order; `unused` further rows belong to none.
struct Product {
  std::vector<std::int64_t> rows;
  std::int64_t n, k;
  DType inputs, output;
  std::int64_t unused = 0;

  std::int64_t experts() const { return static_cast<std::int64_t>(rows.size()); }
  std::int64_t total() const { return std::accumulate(rows.begin(), rows.end(), unused); }
};

HostTensor offsets_of(const Product& p) {
  HostTensor offsets(DType::i64, {p.experts() + 1});
  std::int64_t end = 0;
  for (std::size_t e = 0; e < p.rows.size(); ++e)
    set_element(offsets, static_cast<std::int64_t>(e) + 1, static_cast<double>(end += p.rows[e]));
  return offsets;
}

/// A random matrix whose unused rows are NaN: a sum that takes one in shows it.
HostTensor random_rows(const Product& p, std::int64_t width, std::uint32_t seed) {
  HostTensor matrix = random_tensor(p.inputs, {p.total(), width}, seed);
  for (std::int64_t i = (p.total() - p.unused) * width; i < p.total() * width; ++i) set_element(matrix, i, NAN);
  return matrix;
}

class GroupedGemmGpu : public GpuTest {
 protected:
  /// Forward, input gradient and weight gradient (overwriting and adding) agree with the reference in double.
  void check(const Product& p) {
    SCOPED_TRACE(fmt::format("{} experts, {} rows, {} x {}, {} to {}", p.experts(), p.total(), p.n, p.k,
                             name_of(p.inputs), name_of(p.output)));
    check_product(p, Transpose::yes);
    check_product(p, Transpose::no);
    check_weight_gradient(p, 0);
    check_weight_gradient(p, 1);
  }

  void check_product(const Product& p, Transpose transpose) {
    SCOPED_TRACE(transpose == Transpose::yes ? "forward" : "input gradient");
    const bool forward = transpose == Transpose::yes;
    const std::int64_t used = p.total() - p.unused, width = forward ? p.n : p.k;
    const HostTensor in = random_rows(p, forward ? p.k : p.n, 1), offsets = offsets_of(p);
    const HostTensor weights = random_tensor(p.inputs, {p.experts(), p.n, p.k}, 2);
    HostTensor expected(DType::f64, {p.total(), width});
    reference::grouped_gemm(on_host, transpose, converted(in, DType::f64), converted(weights, DType::f64), offsets,
                            expected);
    const auto run = [&] {
      const Tensor out = poisoned(p.inputs, expected.view().extents());
      cuda::grouped_gemm(context, transpose, to_device(in), to_device(weights), to_device(offsets), out);
      return to_host(out);
    };
    const HostTensor first = run(), second = run();
    EXPECT_LT(relative_error(first.view().rows(0, used), expected.view().rows(0, used)), tolerance_of(p.inputs));
    EXPECT_EQ(max_difference(first.view().rows(0, used), second.view().rows(0, used)), 0);
    for (std::int64_t i = used * width; i < p.total() * width; ++i)
      ASSERT_TRUE(std::isnan(element(first, i))) << "a row of no expert was written";
  }

  void check_weight_gradient(const Product& p, double beta) {
    SCOPED_TRACE(fmt::format("weight gradient, beta {}", beta));
    const HostTensor out = random_rows(p, p.n, 1), in = random_rows(p, p.k, 2), offsets = offsets_of(p);
    const HostTensor before = random_tensor(p.output, {p.experts(), p.n, p.k}, 3);
    HostTensor expected = converted(before, DType::f64);
    reference::grouped_gemm_weight_gradient(on_host, converted(out, DType::f64), converted(in, DType::f64), offsets,
                                            beta, expected);
    const auto run = [&] {
      const Tensor gradient = beta == 0 ? poisoned(p.output, before.view().extents()) : to_device(before);
      cuda::grouped_gemm_weight_gradient(context, to_device(out), to_device(in), to_device(offsets), beta, gradient);
      return to_host(gradient);
    };
    const HostTensor first = run(), second = run();
    EXPECT_LT(relative_error(first, expected), tolerance_of(p.output));
    EXPECT_EQ(max_difference(first, second), 0);
  }
};

constexpr std::pair<DType, DType> types[] = {
    {DType::bf16, DType::bf16}, {DType::bf16, DType::f32}, {DType::f32, DType::f32}};

TEST_F(GroupedGemmGpu, AnyRouting) {
  for (const auto& [inputs, output] : types) {
    check({{1, 0, 131, 64, 200}, 128, 192, inputs, output, 3});
    check({{0, 0, 390, 0}, 256, 64, inputs, output, 5});  // all rows to one expert
    check({{0, 0, 0}, 128, 64, inputs, output, 70});      // none to any
    check({{128, 128}, 64, 128, inputs, output});
    check({{129}, 128, 128, inputs, output});
  }
}

TEST_F(GroupedGemmGpu, AnyWidth) {
  for (const auto& [inputs, output] : types) {
    check({{1}, 1, 1, inputs, output});
    check({{5, 77}, 131, 67, inputs, output, 2});
    check({{40, 90}, 72, 200, inputs, output});
    check({{257, 31}, 320, 448, inputs, output});
    check({{100, 156}, 832, 576, inputs, output});
  }
}

TEST_F(GroupedGemmGpu, LongSumsAndManyTiles) {
  for (const auto& [inputs, output] : types) {
    std::vector<std::int64_t> rows;
    for (std::int64_t e = 0; e < 40; ++e) rows.push_back(e * 37 % 101);
    check({rows, 448, 768, inputs, output, 10});
    check({{700, 1, 650}, 256, 1088, inputs, output});
  }
}

/// More rows of tiles than are walked over together, in even and odd numbers.
TEST_F(GroupedGemmGpu, TallMatrices) {
  for (const DType output : {DType::bf16, DType::f32}) {
    check({{70, 3}, 2432, 448, DType::bf16, output});
    check({{2432, 1, 2100}, 192, 64, DType::bf16, output, 9});
  }
}

TEST_F(GroupedGemmGpu, NoRowsAtAll) {
  for (const auto& [inputs, output] : types) {
    check({{0, 0}, 64, 64, inputs, output});
    check({{0}, 5, 7, inputs, output});
  }
}

TEST_F(GroupedGemmGpu, RowsMayBeStrided) {
  for (const DType type : {DType::bf16, DType::f32}) {
    const Product p{{70, 0, 61}, 128, 192, type, type};
    const HostTensor in = random_tensor(type, {131, 256}, 1), weights = random_tensor(type, {3, 128, 192}, 2);
    const HostTensor offsets = offsets_of(p);
    HostTensor expected(DType::f64, {131, 128});
    reference::grouped_gemm(on_host, Transpose::yes, converted(in, DType::f64).view().slice(1, 64, 256),
                            converted(weights, DType::f64), offsets, expected);
    const Tensor device_in = to_device(in), out = poisoned(type, {131, 144});
    cuda::grouped_gemm(context, Transpose::yes, device_in.view().slice(1, 64, 256), to_device(weights),
                       to_device(offsets), out.view().slice(1, 8, 136));
    const HostTensor result = to_host(out);
    EXPECT_LT(relative_error(result.view().slice(1, 8, 136), expected), tolerance_of(type));
    EXPECT_TRUE(std::isnan(element(result, 7)) && std::isnan(element(result, 136)))
        << "beside the window nothing is written";
  }
}

TEST_F(GroupedGemmGpu, GradientsMayBeStrided) {
  for (const DType type : {DType::bf16, DType::f32}) {
    for (const double beta : {0.0, 1.0}) {
      const Product p{{70, 0, 61}, 136, 192, DType::bf16, type};
      const HostTensor out = random_rows(p, p.n, 1), in = random_rows(p, p.k, 2), offsets = offsets_of(p);
      HostTensor expected(DType::f64, {3, 136, 192});
      reference::grouped_gemm_weight_gradient(on_host, converted(out, DType::f64), converted(in, DType::f64), offsets,
                                              0, expected);
      const Tensor gradient = poisoned(type, {3, 137, 256});
      const View window = gradient.view().slice(1, 0, 136).slice(2, 64, 256);
      cuda::grouped_gemm_weight_gradient(context, to_device(out), to_device(in), to_device(offsets), 0, window);
      if (beta == 1) {  // the same again
        cuda::grouped_gemm_weight_gradient(context, to_device(out), to_device(in), to_device(offsets), 1, window);
        for (std::int64_t i = 0; i < expected.view().size(); ++i) set_element(expected, i, 2 * element(expected, i));
      }
      const HostTensor result = to_host(gradient);
      EXPECT_LT(relative_error(result.view().slice(1, 0, 136).slice(2, 64, 256), expected), tolerance_of(type));
      for (std::int64_t row = 0; row < 3 * 137; ++row) {
        const std::int64_t width = row % 137 == 136 ? 256 : 64;
        for (std::int64_t i = 0; i < width; ++i)
          ASSERT_TRUE(std::isnan(element(result, row * 256 + i))) << "row " << row << " was written outside the window";
      }
    }
  }
}

TEST_F(GroupedGemmGpu, ExpertsWithoutRowsKeepTheirGradients) {
  for (const auto& [inputs, output] : types) {
    const Product p{{0, 65, 0}, 128, 192, inputs, output};
    const HostTensor before = random_tensor(output, {3, 128, 192}, 3);
    const Tensor gradient = to_device(before);
    cuda::grouped_gemm_weight_gradient(context, to_device(random_rows(p, p.n, 1)), to_device(random_rows(p, p.k, 2)),
                                       to_device(offsets_of(p)), 1, gradient);
    const HostTensor after = to_host(gradient);
    for (const std::int64_t e : {0, 2})
      EXPECT_EQ(max_difference(after.view().rows(e, e + 1), before.view().rows(e, e + 1)), 0);
    EXPECT_GT(max_difference(after.view().rows(1, 2), before.view().rows(1, 2)), 0);
  }
}

}  // namespace
}  // namespace moesaic
