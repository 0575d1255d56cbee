#pragma once
/// The factorisation of the ranks, twice over the same ranks. Pure arithmetic: no MPI, no GPU.

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace moesaic {

/// Axes of the dense grid (pipeline, replicate, shard, context) and of the expert grid
/// (pipeline, expert_replicate, expert_shard, expert), outermost first; the last of each is innermost (neighbouring ranks).
enum class Axis : std::uint8_t { pipeline, replicate, shard, context, expert_replicate, expert_shard, expert };
inline constexpr int num_axes = 7;
const char* name_of(Axis axis);

/// What a deck asks for. `shard` 0 takes what is left.
struct GridRequest {
  int pipeline = 1;
  int replicate = 1;
  int shard = 0;
  int context = 1;
  int expert = 1;
};

/// What the model allows; 0: anything.
struct GridLimits {
  std::int64_t experts = 0;  ///< grid.expert divides them
  std::int64_t stages = 0;   ///< grid.pipeline is at most this
};

/// ranks = pipeline x replicate x shard x context = pipeline x expert_replicate x expert_shard x expert.
/// expert_replicate = replicate if expert divides shard x context, else 1; expert_shard is the rest.
class ProcessGrid {
 public:
  /// Factors `ranks`; throws InputError that quotes every number and names the nearest grids that are legal, the limits
  /// included, when it cannot.
  static ProcessGrid make(const GridRequest& request, int ranks, const GridLimits& limits = {});

  int ranks() const { return ranks_; }
  int extent(Axis axis) const { return extents_[static_cast<std::size_t>(axis)]; }
  /// Position of `rank` along `axis`, in [0, extent(axis)).
  int coordinate(int rank, Axis axis) const;
  /// The ranks that differ from `rank` in the named axes only, ascending. All axes must be of one of the two grids.
  std::vector<int> group(int rank, std::initializer_list<Axis> axes) const;

  /// Data ranks = replicate x shard: each takes its own rows of the batch.
  int data_ranks() const { return extent(Axis::replicate) * extent(Axis::shard); }
  int data_rank(int rank) const;

  /// One line for the log: "4 ranks = pipeline 1 x replicate 1 x shard 4 x context 1 = ... x expert 4".
  std::string describe() const;

 private:
  int ranks_ = 1;
  std::array<int, num_axes> extents_{1, 1, 1, 1, 1, 1, 1};
};

}  // namespace moesaic
