#include "moesaic/kernels/cross_entropy.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "support/finite_difference.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

const OperatorContext context;

struct Forward {
  HostTensor losses, log_sum_exp;
};

Forward forward(ConstView logits, ConstView labels) {
  Forward result{HostTensor(logits.dtype(), {logits.extent(0)}), HostTensor(logits.dtype(), {logits.extent(0)})};
  poison(result.losses);
  poison(result.log_sum_exp);
  reference::cross_entropy_forward(context, logits, labels, result.losses, result.log_sum_exp);
  return result;
}

TEST(CrossEntropy, LiteralsOfTwoTokens) {
  // exp: 1, 1, 2 and 3, 3, 3.
  const HostTensor logits =
      make_tensor(DType::f64, {2, 3}, {0, 0, std::log(2.0), std::log(3.0), std::log(3.0), std::log(3.0)});
  const HostTensor labels = make_tensor(DType::i32, {2}, {2, 0});
  const Forward result = forward(logits, labels);
  EXPECT_NEAR(element(result.log_sum_exp, 0), std::log(4.0), 1e-15);
  EXPECT_NEAR(element(result.losses, 0), std::log(2.0), 1e-15);
  EXPECT_NEAR(element(result.losses, 1), std::log(3.0), 1e-15);

  HostTensor gradient = logits;
  reference::cross_entropy_backward(context, gradient, labels, result.log_sum_exp, 12);
  const HostTensor expected = make_tensor(DType::f64, {2, 3}, {3, 3, -6, -8, 4, 4});
  EXPECT_LT(max_difference(gradient, expected), 1e-13);
}

TEST(CrossEntropy, UncountedLabelsGiveNeitherLossNorGradient) {
  HostTensor logits = random_tensor(DType::f32, {2, 131}, 1);
  const HostTensor labels = make_tensor(DType::i32, {2}, {-1, 130});
  const Forward result = forward(logits, labels);
  EXPECT_EQ(element(result.losses, 0), 0);
  EXPECT_GT(element(result.losses, 1), 0);
  reference::cross_entropy_backward(context, logits, labels, result.log_sum_exp, 1);
  for (std::int64_t i = 0; i < 131; ++i) EXPECT_EQ(element(logits, i), 0);
  EXPECT_LT(element(logits, 131 + 130), 0);
}

TEST(CrossEntropy, LargeLogitsDoNotOverflow) {
  const HostTensor labels = make_tensor(DType::i32, {1}, {1});
  const Forward result = forward(make_tensor(DType::f32, {1, 3}, {1e30, 1e30, -1e30}), labels);
  EXPECT_EQ(element(result.losses, 0), 0) << "log 2 is lost beside 1e30";
  const Forward small = forward(make_tensor(DType::f32, {1, 2}, {-1000, -1000}), labels);
  EXPECT_NEAR(element(small.losses, 0), std::log(2.0), 1e-4);
}

TEST(CrossEntropy, NoTokens) {
  const Forward result = forward(HostTensor(DType::f32, {0, 7}), HostTensor(DType::i32, {0}));
  HostTensor logits(DType::f32, {0, 7});
  reference::cross_entropy_backward(context, logits, HostTensor(DType::i32, {0}), result.log_sum_exp, 1);
}

TEST(CrossEntropy, AgreesWithFiniteDifferences) {
  HostTensor logits = random_tensor(DType::f64, {5, 131}, 2, 4);
  const HostTensor labels = make_tensor(DType::i32, {5}, {0, 130, -1, 7, 64});
  const auto loss = [&] {
    double sum = 0;
    for (const double value : elements(forward(logits, labels).losses)) sum += 0.3 * value;
    return sum;
  };
  HostTensor gradient = logits;
  reference::cross_entropy_backward(context, gradient, labels, forward(logits, labels).log_sum_exp, 0.3);
  EXPECT_LT(max_gradient_error(loss, logits, gradient), 1e-6);
}

TEST(CrossEntropy, FloatKeepsItsPrecisionOverALongVocabulary) {
  constexpr std::int64_t vocabulary = 151937;
  HostTensor logits = random_tensor(DType::f32, {3, vocabulary}, 3, 8);
  HostTensor wide(DType::f64, {3, vocabulary});
  assign(wide, elements(logits));
  const HostTensor labels = make_tensor(DType::i32, {3}, {0, vocabulary - 1, 75000});
  const Forward narrow = forward(logits, labels), exact = forward(wide, labels);
  EXPECT_LT(max_difference(narrow.losses, exact.losses), 2e-6);
  reference::cross_entropy_backward(context, logits, labels, narrow.log_sum_exp, 1);
  reference::cross_entropy_backward(context, wide, labels, exact.log_sum_exp, 1);
  EXPECT_LT(max_difference(logits, wide), 1e-6);
}

}  // namespace
}  // namespace moesaic
