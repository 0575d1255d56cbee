#include "moesaic/kernels/attention_merge.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "moesaic/kernels/attention.hpp"
#include "support/host_context.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

HostContext context;
constexpr double nothing = -std::numeric_limits<double>::infinity();

// Two heads of one query. The first has seen 1 of weight 3 and gets 5 of weight 1: 2, of weight 4. The second has seen
// nothing, whatever its output holds.
TEST(AttentionMerge, WeighsByWhatEachHasSeen) {
  HostTensor out = make_tensor(DType::f64, {1, 1, 2, 1}, {1, std::nan("")});
  HostTensor sum = make_tensor(DType::f64, {1, 2, 1}, {std::log(3), nothing});
  const HostTensor more = make_tensor(DType::f64, {1, 1, 2, 1}, {5, 7});
  const HostTensor more_sum = make_tensor(DType::f64, {1, 2, 1}, {0, 0.5});
  reference::attention_merge(context, more, more_sum, out, sum);
  EXPECT_NEAR(element(out, 0), 2, 1e-15);
  EXPECT_NEAR(element(sum, 0), std::log(4), 1e-15);
  EXPECT_EQ(element(out, 1), 7);
  EXPECT_EQ(element(sum, 1), 0.5);
}

TEST(AttentionMerge, NothingSeenIsZeroAndNothingNewChangesNothing) {
  HostTensor out = make_tensor(DType::f32, {1, 2, 1, 1}, {std::nan(""), 3});
  HostTensor sum = make_tensor(DType::f32, {1, 1, 2}, {nothing, 1.25});
  const HostTensor more(DType::f32, {1, 2, 1, 1}), more_sum = make_tensor(DType::f32, {1, 1, 2}, {nothing, nothing});
  reference::attention_merge(context, more, more_sum, out, sum);
  EXPECT_EQ(elements(out), (std::vector<double>{0, 3}));
  EXPECT_EQ(elements(sum), (std::vector<double>{nothing, 1.25}));
}

TEST(AttentionMerge, NotANumberIsNotHidden) {
  HostTensor out(DType::f32, {1, 1, 1, 1}), sum = make_tensor(DType::f32, {1, 1, 1}, {nothing});
  const HostTensor more = make_tensor(DType::f32, {1, 1, 1, 1}, {std::nan("")});
  const HostTensor more_sum = make_tensor(DType::f32, {1, 1, 1}, {std::nan("")});
  reference::attention_merge(context, more, more_sum, out, sum);
  EXPECT_TRUE(std::isnan(element(out, 0)));
  EXPECT_TRUE(std::isnan(element(sum, 0)));
}

// Attention over keys [0, 4), then [4, 9), into strided places, is attention over all of them.
TEST(AttentionMerge, BlocksOfKeysMakeTheWhole) {
  const HostTensor q = random_tensor(DType::f64, {2, 3, 4, 5}, 1, 2), k = random_tensor(DType::f64, {2, 9, 2, 5}, 2, 2),
                   v = random_tensor(DType::f64, {2, 9, 2, 3}, 3);
  HostTensor whole(DType::f64, {2, 3, 4, 3}), whole_sum(DType::f64, {2, 4, 3});
  reference::attention_forward(context, {.causal = false}, 0.5, q, k, v, whole, whole_sum);

  HostTensor wide(DType::f64, {2, 5, 4, 3}), wide_sum(DType::f64, {2, 4, 5});
  poison(wide);
  const View out = wide.view().slice(1, 2, 5), sum = wide_sum.view().slice(2, 2, 5);
  for (std::int64_t i = 0; i < sum.size(); ++i) set_element(sum, i, nothing);
  for (const auto& [begin, end] : {std::pair{0, 4}, std::pair{4, 9}}) {
    HostTensor part(DType::f64, {2, 3, 4, 3}), part_sum(DType::f64, {2, 4, 3});
    reference::attention_forward(context, {.causal = false}, 0.5, q, k.view().slice(1, begin, end),
                                 v.view().slice(1, begin, end), part, part_sum);
    reference::attention_merge(context, part, part_sum, out, sum);
  }
  EXPECT_LT(max_difference(out, whole), 1e-14);
  EXPECT_LT(max_difference(sum, whole_sum), 1e-14);
}

}  // namespace
}  // namespace moesaic
