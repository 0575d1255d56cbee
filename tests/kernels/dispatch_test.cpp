#include "moesaic/kernels/dispatch.hpp"

#include <gtest/gtest.h>

#include <set>

#include "moesaic/kernels/permutation.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

const OperatorContext context;

TEST(DispatchDestinations, AreDistinctAndAscending) {
  // Three experts a rank: experts 0-2 at rank 0, 3-5 at rank 1, 6-8 at rank 2.
  const HostTensor indices = make_tensor(DType::i32, {4, 3}, {8, 0, 7, 4, 3, 5, 6, 3, 0, -1, -1, -1});
  HostTensor destinations(DType::i32, {4, 3});
  reference::dispatch_destinations(context, indices, 3, destinations);
  EXPECT_EQ(elements(destinations), (std::vector<double>{0, 2, -1, 1, -1, -1, 0, 1, 2, -1, -1, -1}));
}

TEST(DispatchDestinations, OneRankTakesOneColumn) {
  const HostTensor indices = make_tensor(DType::i32, {2, 3}, {2, 0, 1, 0, 1, 2});
  HostTensor destinations(DType::i32, {2, 1});
  reference::dispatch_destinations(context, indices, 3, destinations);
  EXPECT_EQ(elements(destinations), (std::vector<double>{0, 0}));
}

TEST(DispatchRouting, KeepsOnlyTheExpertsOfTheSlotsRank) {
  const HostTensor indices = make_tensor(DType::i32, {2, 2}, {3, 0, 1, 0});
  const HostTensor weights = make_tensor(DType::f32, {2, 2}, {0.75, 0.25, 0.5, 0.125});
  const HostTensor slot_token = make_tensor(DType::i32, {3}, {0, 1, 0});
  const HostTensor offsets = make_tensor(DType::i64, {3}, {0, 2, 3});
  HostTensor slot_indices(DType::i32, {3, 2}), slot_weights(DType::f32, {3, 2});
  poison(slot_weights);
  reference::dispatch_routing(context, indices, weights, slot_token, offsets, 2, slot_indices, slot_weights);
  EXPECT_EQ(elements(slot_indices), (std::vector<double>{-1, 0, 1, 0, 1, -1}));
  EXPECT_EQ(elements(slot_weights), (std::vector<double>{0, 0.25, 0.5, 0.125, 0.75, 0}));
}

/// Every (token, column) is found at exactly one slot, with its weight, and its weight's gradient finds the way back.
void round_trip(std::int64_t tokens, std::int64_t top_k, std::int64_t ranks, std::int64_t experts_per_rank) {
  HostTensor indices(DType::i32, {tokens, top_k});
  fill_random_integers(indices, 7, 0, ranks * experts_per_rank - 1);
  const HostTensor weights = random_tensor(DType::f64, {tokens, top_k}, 8);
  const std::int64_t columns = std::min(top_k, ranks);
  HostTensor destinations(DType::i32, {tokens, columns}), offsets(DType::i64, {ranks + 1});
  HostTensor slot_token(DType::i32, {tokens * columns}), token_slot(DType::i32, {tokens, columns});
  reference::dispatch_destinations(context, indices, experts_per_rank, destinations);
  reference::sort_by_key(context, destinations, offsets, slot_token, token_slot);
  const auto slots = static_cast<std::int64_t>(element(offsets, ranks));

  HostTensor slot_indices(DType::i32, {slots, top_k}), slot_weights(DType::f64, {slots, top_k});
  poison(slot_weights);
  reference::dispatch_routing(context, indices, weights, slot_token, offsets, experts_per_rank, slot_indices,
                              slot_weights);
  std::int64_t found = 0;
  for (std::int64_t i = 0; i < slots * top_k; ++i) found += element(slot_indices, i) >= 0;
  EXPECT_EQ(found, tokens * top_k);

  HostTensor gradient(DType::f64, {tokens, top_k});
  poison(gradient);
  reference::dispatch_weights_gradient(context, indices, destinations, token_slot, experts_per_rank, slot_weights,
                                       gradient);
  EXPECT_EQ(max_difference(gradient, weights), 0);
}

TEST(DispatchWeightsGradient, FindsTheWayBack) {
  round_trip(0, 2, 2, 4);
  round_trip(1, 1, 1, 1);
  round_trip(131, 8, 3, 43);
  round_trip(1025, 6, 16, 24);
}

}  // namespace
}  // namespace moesaic
