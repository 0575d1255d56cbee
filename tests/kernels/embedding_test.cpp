#include "moesaic/kernels/embedding.hpp"

#include <gtest/gtest.h>

#include "support/finite_difference.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

const OperatorContext context;

TEST(Embedding, TakesRowsOfTheTable) {
  const HostTensor table = make_tensor(DType::f32, {3, 2}, {1, 2, 3, 4, 5, 6});
  const HostTensor ids = make_tensor(DType::i32, {4}, {2, 2, 0, 1});
  HostTensor y(DType::f32, {4, 2});
  poison(y);
  reference::embedding_forward(context, table, ids, y);
  EXPECT_EQ(elements(y), (std::vector<double>{5, 6, 5, 6, 1, 2, 3, 4}));
}

TEST(Embedding, BackwardAddsToTheTable) {
  const HostTensor ids = make_tensor(DType::i32, {3}, {1, 0, 1});
  const HostTensor gradient = make_tensor(DType::f32, {3, 2}, {1, 2, 10, 20, 100, 200});
  HostTensor table_gradient = make_tensor(DType::f32, {3, 2}, {0.5, 0, 0, 0, 7, 8});
  reference::embedding_backward(context, ids, gradient, table_gradient);
  EXPECT_EQ(elements(table_gradient), (std::vector<double>{10.5, 20, 101, 202, 7, 8}));
}

TEST(Embedding, AgreesWithFiniteDifferences) {
  for (const std::int64_t tokens : {0, 1, 131}) {
    HostTensor table = random_tensor(DType::f64, {5, 67}, 1);
    const HostTensor y_gradient = random_tensor(DType::f64, {tokens, 67}, 2);
    HostTensor ids(DType::i32, {tokens}), y(DType::f64, {tokens, 67}), table_gradient(DType::f64, {5, 67});
    fill_random_integers(ids, 3, 0, 4);
    reference::embedding_backward(context, ids, y_gradient, table_gradient);
    const auto loss = [&] {
      reference::embedding_forward(context, table, ids, y);
      return inner_product(y_gradient, y);
    };
    EXPECT_LT(max_gradient_error(loss, table, table_gradient), 1e-6);
  }
}

TEST(Embedding, LargeGradientsAddTokensInOrder) {
  // 1 + 2^-24 rounds to 1 in f32: only the order small + small + large keeps the small ones.
  const std::int64_t tokens = 2049, hidden = 131;
  HostTensor ids(DType::i32, {tokens}), gradient(DType::f32, {tokens, hidden}), sums(DType::f32, {1, hidden});
  for (std::int64_t i = 0; i < gradient.view().size(); ++i) {
    gradient.data<float>()[i] = i / hidden == tokens - 1 ? 1.0f : 0x1p-24f;
  }
  reference::embedding_backward(context, ids, gradient, sums);
  for (std::int64_t c = 0; c < hidden; ++c) EXPECT_EQ(sums.data<float>()[c], 1 + 0x1p-13f);
}

}  // namespace
}  // namespace moesaic
