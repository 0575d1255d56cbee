#include "moesaic/kernels/bias.hpp"

#include <gtest/gtest.h>
#include <omp.h>

#include "support/finite_difference.hpp"
#include "support/host_context.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

HostContext context;

TEST(Bias, LiteralsOfOneGroup) {
  const HostTensor bias = make_tensor(DType::f32, {1, 2}, {10, 20});
  HostTensor rows = make_tensor(DType::f32, {3, 2}, {1, 2, 3, 4, 5, 6});
  reference::add_bias(context, bias, {}, rows);
  EXPECT_EQ(elements(rows), (std::vector<double>{11, 22, 13, 24, 15, 26}));
  HostTensor gradient = make_tensor(DType::f32, {1, 2}, {100, 200});
  reference::bias_gradient(context, rows, {}, gradient);
  EXPECT_EQ(elements(gradient), (std::vector<double>{139, 272})) << "added to what is there";
}

// Groups of 1, 0 and 2 rows; the last row belongs to none.
TEST(Bias, LiteralsOfGroups) {
  const HostTensor bias = make_tensor(DType::f64, {3, 2}, {10, 20, 30, 40, 50, 60});
  const HostTensor offsets = make_tensor(DType::i64, {4}, {0, 1, 1, 3});
  HostTensor rows = make_tensor(DType::f64, {4, 2}, {1, 1, 2, 2, 3, 3, 4, 4});
  reference::add_bias(context, bias, offsets, rows);
  EXPECT_EQ(elements(rows), (std::vector<double>{11, 21, 52, 62, 53, 63, 4, 4}));
  HostTensor gradient = make_tensor(DType::f64, {3, 2}, {1, 2, 3, 4, 5, 6});
  reference::bias_gradient(context, rows, offsets, gradient);
  EXPECT_EQ(elements(gradient), (std::vector<double>{12, 23, 3, 4, 110, 131}));
}

TEST(Bias, NoRowsAndNoGroups) {
  HostTensor rows(DType::f32, {0, 3}), gradient = make_tensor(DType::f32, {1, 3}, {1, 2, 3});
  reference::add_bias(context, gradient, {}, rows);
  reference::bias_gradient(context, rows, {}, gradient);
  EXPECT_EQ(elements(gradient), (std::vector<double>{1, 2, 3}));
  HostTensor none(DType::f32, {0, 3});
  const HostTensor offsets = make_tensor(DType::i64, {1}, {0});
  reference::add_bias(context, none, offsets, rows);
  reference::bias_gradient(context, rows, offsets, none);
}

/// Rows of a wider tensor, more than one chunk of rows and block of columns, groups of many sizes.
struct Strided {
  explicit Strided(DType type)
      : whole(random_tensor(type, {700, 150}, 1)), bias(random_tensor(type, {4, 131}, 2)),
        gradient(random_tensor(type, {4, 131}, 3)) {}
  View rows() { return whole.view().slice(1, 11, 142); }

  HostTensor whole, bias, gradient, offsets = make_tensor(DType::i64, {5}, {0, 1, 132, 132, 650});
};

TEST(Bias, FollowsTheDefinitionOnStridedRows) {
  for (const DType type : {DType::f32, DType::f64}) {
    Strided x(type), before(type);
    reference::add_bias(context, x.bias, x.offsets, x.rows());
    reference::bias_gradient(context, before.rows(), x.offsets, x.gradient);
    HostTensor expected(DType::f64, {4, 131});
    for (std::int64_t i = 0; i < 4 * 131; ++i) set_element(expected, i, element(before.gradient, i));
    for (std::int64_t row = 0; row < 700; ++row) {
      const std::int64_t group = row < 1 ? 0 : row < 132 ? 1 : 3;
      for (std::int64_t i = 0; i < 131; ++i) {
        const double value = element(before.rows(), row * 131 + i), b = element(x.bias, group * 131 + i);
        ASSERT_NEAR(element(x.rows(), row * 131 + i), row < 650 ? value + b : value, 1e-7) << row << ' ' << i;
        if (row < 650) set_element(expected, group * 131 + i, element(expected, group * 131 + i) + value);
      }
    }
    EXPECT_LT(max_difference(x.gradient, expected), type == DType::f32 ? 2e-5 : 1e-13);
    EXPECT_EQ(max_difference(x.whole.view().slice(1, 142, 150), before.whole.view().slice(1, 142, 150)), 0);
  }
}

TEST(Bias, GradientIsThatOfFiniteDifferences) {
  const HostTensor offsets = make_tensor(DType::i64, {3}, {0, 4, 7}), weights = random_tensor(DType::f64, {7, 5}, 1);
  HostTensor bias = random_tensor(DType::f64, {2, 5}, 2), gradient(DType::f64, {2, 5});
  reference::bias_gradient(context, weights, offsets, gradient);
  const auto loss = [&] {
    HostTensor rows = random_tensor(DType::f64, {7, 5}, 3);
    reference::add_bias(context, bias, offsets, rows);
    return inner_product(weights, rows);
  };
  EXPECT_LT(max_gradient_error(loss, bias, gradient), 1e-6);
}

TEST(Bias, BitsDoNotDependOnTheNumberOfThreads) {
  const int threads = omp_get_max_threads();
  Strided one(DType::f32), three(DType::f32);
  omp_set_num_threads(1);
  reference::bias_gradient(context, one.rows(), one.offsets, one.gradient);
  omp_set_num_threads(3);
  reference::bias_gradient(context, three.rows(), three.offsets, three.gradient);
  omp_set_num_threads(threads);
  EXPECT_EQ(max_difference(one.gradient, three.gradient), 0);
}

}  // namespace
}  // namespace moesaic
