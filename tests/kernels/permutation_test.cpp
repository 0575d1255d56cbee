#include "moesaic/kernels/permutation.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "support/finite_difference.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

const OperatorContext context;

struct Sorted {
  HostTensor offsets, slot_token, token_slot;
};

/// Sorts into outputs that hold rubbish at first.
Sorted sort(ConstView keys, std::int64_t num_keys) {
  Sorted sorted{HostTensor(DType::i64, {num_keys + 1}), HostTensor(DType::i32, {keys.size()}),
                HostTensor(DType::i32, {keys.extent(0), keys.extent(1)})};
  for (View view : {sorted.offsets.view(), sorted.slot_token.view(), sorted.token_slot.view()}) {
    assign(view, std::vector<double>(static_cast<std::size_t>(view.size()), -77));
  }
  reference::sort_by_key(context, keys, sorted.offsets, sorted.slot_token, sorted.token_slot);
  return sorted;
}

TEST(SortByKey, ExampleOfTheHeader) {
  const Sorted sorted = sort(make_tensor(DType::i32, {2, 2}, {1, 0, 0, -1}), 2);
  EXPECT_EQ(elements(sorted.offsets), (std::vector<double>{0, 2, 3}));
  EXPECT_EQ(elements(sorted.slot_token.view().rows(0, 3)), (std::vector<double>{0, 1, 0}));
  EXPECT_EQ(element(sorted.slot_token, 3), -77) << "entries past the last slot are left alone";
  EXPECT_EQ(elements(sorted.token_slot), (std::vector<double>{2, 0, 1, -1}));
}

TEST(SortByKey, NoTokensAndOneToken) {
  EXPECT_EQ(elements(sort(HostTensor(DType::i32, {0, 4}), 3).offsets), (std::vector<double>{0, 0, 0, 0}));
  const Sorted one = sort(make_tensor(DType::i32, {1, 3}, {2, 0, 1}), 3);
  EXPECT_EQ(elements(one.offsets), (std::vector<double>{0, 1, 2, 3}));
  EXPECT_EQ(elements(one.token_slot), (std::vector<double>{2, 0, 1}));
}

TEST(SortByKey, AllTokensToOneKeyKeepTheirOrder) {
  const HostTensor keys = make_tensor(DType::i32, {131, 1}, std::vector<double>(131, 1));
  const Sorted sorted = sort(keys, 3);
  EXPECT_EQ(elements(sorted.offsets), (std::vector<double>{0, 0, 131, 131}));
  for (std::int64_t i = 0; i < 131; ++i) EXPECT_EQ(sorted.slot_token.data<std::int32_t>()[i], i);
}

class SortByKeySizes : public ::testing::TestWithParam<std::pair<int, int>> {};

TEST_P(SortByKeySizes, SlotsAreGroupedByKeyInTokenOrder) {
  const auto [tokens, num_keys] = GetParam();
  HostTensor keys(DType::i32, {tokens, 4});
  fill_random_integers(keys, 5, -1, num_keys - 1);
  const Sorted sorted = sort(keys, num_keys);
  std::int64_t routed = 0;
  std::int64_t last_key = 0, last_entry = -1;
  for (std::int64_t slot = 0; slot < sorted.offsets.data<std::int64_t>()[num_keys]; ++slot) {
    // The entry of this slot is the one that points back to it.
    const auto token = static_cast<std::int64_t>(element(sorted.slot_token, slot));
    std::int64_t entry = 4 * token;
    while (entry < 4 * token + 4 && sorted.token_slot.data<std::int32_t>()[entry] != slot) ++entry;
    ASSERT_LT(entry, 4 * token + 4);
    const auto key = static_cast<std::int64_t>(element(keys, entry));
    EXPECT_GE(slot, sorted.offsets.data<std::int64_t>()[key]);
    EXPECT_LT(slot, sorted.offsets.data<std::int64_t>()[key + 1]);
    EXPECT_TRUE(key > last_key || (key == last_key && entry > last_entry));
    last_key = key;
    last_entry = entry;
  }
  for (std::int64_t i = 0; i < keys.view().size(); ++i) {
    routed += element(keys, i) >= 0;
    EXPECT_EQ(element(sorted.token_slot, i) < 0, element(keys, i) < 0);
  }
  EXPECT_EQ(sorted.offsets.data<std::int64_t>()[num_keys], routed);
}

INSTANTIATE_TEST_SUITE_P(Sizes, SortByKeySizes,
                         ::testing::Values(std::pair{1, 1}, std::pair{131, 7}, std::pair{1023, 384}));

TEST(GatherRows, CopiesTheRowsOfTheSlots) {
  const HostTensor in = make_tensor(DType::f32, {3, 2}, {1, 2, 3, 4, 5, 6});
  const HostTensor tokens = make_tensor(DType::i32, {4}, {2, 0, 0, 1});
  HostTensor out(DType::f32, {4, 2});
  poison(out);
  reference::gather_rows(context, in, tokens, out);
  EXPECT_EQ(elements(out), (std::vector<double>{5, 6, 1, 2, 1, 2, 3, 4}));
}

TEST(GatherRows, NoSlots) {
  HostTensor out(DType::f32, {0, 2});
  reference::gather_rows(context, HostTensor(DType::f32, {3, 2}), HostTensor(DType::i32, {0}), out);
}

TEST(CombineRows, AddsWeightedRowsInColumnOrder) {
  const HostTensor in = make_tensor(DType::f32, {3, 2}, {1, 2, 10, 20, 100, 200});
  const HostTensor slots = make_tensor(DType::i32, {3, 2}, {2, 0, -1, 1, -1, -1});
  const HostTensor weights = make_tensor(DType::f32, {3, 2}, {0.5, 2, 7, 0.25, 7, 7});
  HostTensor out(DType::f32, {3, 2});
  poison(out);
  reference::combine_rows(context, in, slots, weights, out);
  EXPECT_EQ(elements(out), (std::vector<double>{52, 104, 2.5, 5, 0, 0}));
  poison(out);
  reference::combine_rows(context, in, slots, {}, out);
  EXPECT_EQ(elements(out), (std::vector<double>{101, 202, 10, 20, 0, 0}));
}

TEST(CombineRows, UndoesGatherOfAPermutation) {
  for (const std::int64_t tokens : {0, 1, 131, 2049}) {
    const HostTensor in = random_tensor(DType::f32, {tokens, 33}, 1);
    HostTensor keys(DType::i32, {tokens, 1});
    fill_random_integers(keys, 2, 0, 300);
    const Sorted sorted = sort(keys, 301);
    HostTensor slots(DType::f32, {tokens, 33}), out(DType::f32, {tokens, 33});
    poison(slots);
    poison(out);
    reference::gather_rows(context, in, sorted.slot_token, slots);
    reference::combine_rows(context, slots, sorted.token_slot, {}, out);
    EXPECT_EQ(max_difference(in, out), 0) << tokens;
  }
}

struct CombineCase {
  HostTensor slots = make_tensor(DType::i32, {3, 2}, {3, 0, -1, 2, 1, 4});
  HostTensor in = random_tensor(DType::f64, {5, 131}, 3);
  HostTensor weights = random_tensor(DType::f64, {3, 2}, 4);
  HostTensor out_gradient = random_tensor(DType::f64, {3, 131}, 5);
  HostTensor in_gradient{DType::f64, {5, 131}}, weights_gradient{DType::f64, {3, 2}};

  double loss() {
    HostTensor out(DType::f64, {3, 131});
    reference::combine_rows(context, in, slots, weights, out);
    return inner_product(out_gradient, out);
  }
};

TEST(CombineRowsBackward, AgreesWithFiniteDifferences) {
  CombineCase test;
  poison(test.in_gradient);
  poison(test.weights_gradient);
  reference::combine_rows_backward(context, test.in, test.slots, test.weights, test.out_gradient, test.in_gradient,
                                   test.weights_gradient);
  EXPECT_LT(max_gradient_error([&] { return test.loss(); }, test.in, test.in_gradient), 1e-6);
  EXPECT_LT(max_gradient_error([&] { return test.loss(); }, test.weights, test.weights_gradient), 1e-6);
  EXPECT_EQ(element(test.weights_gradient, 2), 0) << "an entry without a slot";
}

TEST(CombineRowsBackward, WritesOverItsInput) {
  CombineCase test;
  reference::combine_rows_backward(context, test.in, test.slots, test.weights, test.out_gradient, test.in_gradient,
                                   test.weights_gradient);
  HostTensor weights_gradient(DType::f64, {3, 2});
  reference::combine_rows_backward(context, test.in, test.slots, test.weights, test.out_gradient, test.in,
                                   weights_gradient);
  EXPECT_EQ(max_difference(test.in, test.in_gradient), 0);
  EXPECT_EQ(max_difference(weights_gradient, test.weights_gradient), 0);
}

TEST(CombineRowsBackward, WithoutWeightsNeedsNoInput) {
  CombineCase test;
  reference::combine_rows_backward(context, {}, test.slots, {}, test.out_gradient, test.in_gradient, {});
  EXPECT_EQ(max_difference(test.in_gradient.view().rows(3, 4), test.out_gradient.view().rows(0, 1)), 0);
}

}  // namespace
}  // namespace moesaic
