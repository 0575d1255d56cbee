#pragma once
/// The choice of the groups of experts that a token may go to, by one warp on a row of shared memory.

#include "router_options.cuh"

#include <climits>

namespace moesaic::cuda {

/// A score and where it is; the larger is better, and among equals the lower index.
struct Candidate {
  float score = -INFINITY;
  int index = INT_MAX;

  __device__ bool better_than(const Candidate& other) const {
    return score > other.score || (score == other.score && index < other.index);
  }
};

/// The best of all lanes' candidates, in every lane.
__device__ inline Candidate best_of_warp(Candidate best) {
#pragma unroll
  for (int distance = warp_lanes / 2; distance > 0; distance /= 2) {
    const Candidate other{__shfl_xor_sync(~0u, best.score, distance), __shfl_xor_sync(~0u, best.index, distance)};
    if (other.better_than(best)) best = other;
  }
  return best;
}

/// The best of scores [begin, end), but not those set to NaN.
__device__ inline Candidate best_score(const float* scores, int begin, int end) {
  Candidate best;
  for (int e = begin + lane_number(); e < end; e += warp_lanes) {
    const Candidate other{scores[e], e};
    if (!isnan(other.score) && other.better_than(best)) best = other;
  }
  return best_of_warp(best);
}

/// Takes a score out of the choice.
__device__ inline void strike(float* scores, int index) {
  __syncwarp();
  if (lane_number() == 0) scores[index] = NAN;
  __syncwarp();
}

/// Strikes the experts of all groups but the top_groups with the largest sum of their two best scores.
__device__ inline void strike_groups(const RoundedOptions& options, float* scores) {
  const int size = options.experts / options.groups;
  Candidate mine;  // of the group with this lane's number
  for (int group = 0; group < options.groups; ++group) {
    const int begin = group * size;
    const Candidate first = best_score(scores, begin, begin + size);
    strike(scores, first.index);
    const Candidate second = best_score(scores, begin, begin + size);
    __syncwarp();
    if (lane_number() == 0) scores[first.index] = first.score;
    __syncwarp();
    if (lane_number() == group) mine = {size > 1 ? first.score + second.score : first.score, group};
  }
  unsigned chosen = 0;
  for (int i = 0; i < options.top_groups; ++i) {
    const int group = best_of_warp((chosen >> lane_number() & 1u) != 0 ? Candidate() : mine).index;
    chosen |= 1u << group;
  }
  for (int e = lane_number(); e < options.experts; e += warp_lanes) {
    if ((chosen >> (e / size) & 1u) == 0) scores[e] = NAN;
  }
  __syncwarp();
}

}  // namespace moesaic::cuda
