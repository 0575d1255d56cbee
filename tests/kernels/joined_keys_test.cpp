#include "moesaic/kernels/joined_keys.hpp"

#include <gtest/gtest.h>

#include "support/finite_difference.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

const OperatorContext context;

TEST(JoinKeys, EveryHeadGetsTheSharedPart) {
  const HostTensor own = make_tensor(DType::f32, {1, 2, 2}, {1, 2, 3, 4}),
                   shared = make_tensor(DType::f32, {1, 1}, {9});
  HostTensor keys(DType::f32, {1, 2, 3});
  poison(keys);
  reference::join_keys(context, own, shared, keys);
  EXPECT_EQ(elements(keys), (std::vector<double>{1, 2, 9, 3, 4, 9}));
}

TEST(JoinKeysBackward, TheSharedPartGetsTheSumOverHeads) {
  const HostTensor gradient = make_tensor(DType::f32, {1, 2, 3}, {1, 2, 10, 3, 4, 20});
  HostTensor own(DType::f32, {1, 2, 2}), shared(DType::f32, {1, 1});
  poison(own);
  poison(shared);
  reference::join_keys_backward(context, gradient, own, shared);
  EXPECT_EQ(elements(own), (std::vector<double>{1, 2, 3, 4}));
  EXPECT_EQ(elements(shared), (std::vector<double>{30}));
}

// The parts lie in rows of other things, as the projections leave them; many tokens, so that threads take part.
TEST(JoinKeys, TakesStridedViewsAndIsLinear) {
  for (const std::int64_t tokens : {0, 1, 131, 1025}) {
    const HostTensor projected = random_tensor(DType::f64, {tokens, 3 * 7}, 1),
                     rows = random_tensor(DType::f64, {tokens, 6}, 2);
    const ConstView own = projected.view().split_last(3, 7).slice(2, 0, 4), shared = rows.view().slice(1, 4, 6);
    HostTensor keys(DType::f64, {tokens, 3, 6});
    poison(keys);
    reference::join_keys(context, own, shared, keys);
    for (std::int64_t i = 0; i < tokens * 18; ++i) {
      const std::int64_t t = i / 18, head = i / 6 % 3, column = i % 6;
      const double expected =
          column < 4 ? element(projected, t * 21 + head * 7 + column) : element(rows, t * 6 + column);
      ASSERT_EQ(element(keys, i), expected) << i;
    }
    // <keys, g> = <own, own_gradient> + <shared, shared_gradient>
    const HostTensor gradient = random_tensor(DType::f64, {tokens, 3, 6}, 3);
    HostTensor own_gradient(DType::f64, {tokens, 3 * 7}), shared_gradient(DType::f64, {tokens, 6});
    reference::join_keys_backward(context, gradient, own_gradient.view().split_last(3, 7).slice(2, 0, 4),
                                  shared_gradient.view().slice(1, 4, 6));
    EXPECT_NEAR(inner_product(keys, gradient),
                inner_product(projected, own_gradient) + inner_product(rows, shared_gradient), 1e-9);
  }
}

}  // namespace
}  // namespace moesaic
