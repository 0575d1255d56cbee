#pragma once
/// What the router's kernels share: one warp works on a token.

#include "launch.cuh"
#include "refuse.hpp"
#include "rows.cuh"

#include "moesaic/kernels/router.hpp"

namespace moesaic::cuda {

inline constexpr std::int64_t most_experts = 4096;
inline constexpr float smallest = 1.17549435e-38f;  // FLT_MIN

/// RouterOptions as kernels read them.
struct RoundedOptions {
  int experts, top_k, groups, top_groups;
  bool renormalise, softmax;
  float scale;
};

inline RoundedOptions options_of(const RouterOptions& options, std::int64_t experts) {
  return {static_cast<int>(experts),
          static_cast<int>(options.top_k),
          static_cast<int>(options.groups),
          static_cast<int>(options.top_groups),
          options.renormalise,
          options.scores == RouterScores::softmax,
          static_cast<float>(options.scale)};
}

/// Sum over the lanes below top_k, in their order, and at least the smallest number: a bias can choose experts whose
/// probability underflowed.
__device__ inline float chosen_sum(int top_k, float mine) {
  float sum = 0;
  for (int j = 0; j < top_k; ++j) sum += __shfl_sync(~0u, mine, j);
  return fmaxf(sum, smallest);
}

/// Throws ContractError where a warp's lanes or shared memory do not suffice.
inline void expect_router_fits(std::string_view operator_name, const RouterOptions& options, std::int64_t experts) {
  expect_at_most(operator_name, "top_k", options.top_k, warp_lanes);
  expect_at_most(operator_name, "groups", options.groups, warp_lanes);
  expect_at_most(operator_name, "experts", experts, most_experts);
}

}  // namespace moesaic::cuda
