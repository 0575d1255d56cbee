#pragma once
/// What a run will hold, compute and send, before it begins: from the deck and a number of ranks alone. No MPI, no GPU.

#include <optional>
#include <vector>

#include "moesaic/train/rehearsal.hpp"

namespace moesaic {

/// Bytes that a rank sends in a step, by the axis that they travel along.
struct ExchangePlan {
  std::int64_t shard = 0;      ///< weights gathered and gradients reduced over the slices
  std::int64_t replicate = 0;  ///< gradients summed over the copies of a slice
  std::int64_t expert = 0;     ///< tokens to their experts and back
  std::int64_t context = 0;    ///< keys, values and their gradients
  std::int64_t pipeline = 0;   ///< activations and their gradients between stages
  std::int64_t other = 0;      ///< counts, router statistics, norms

  std::int64_t total() const { return shard + replicate + expert + context + pipeline + other; }
};

/// The exchange of a rehearsal, its communicators gathered by axis.
ExchangePlan exchange_of(const Rehearsal& rehearsal);

struct RunPlan {
  RunPlan(const RunSettings& settings, int ranks);

  Decomposition parts;
  DeviceKind device;
  DType type;                      ///< of weights and activations
  std::int64_t memory = 0;         ///< bytes that a rank may use
  std::int64_t micro_batches = 0;  ///< of a data rank in a step
  double flops_per_token = 0;
  std::vector<double> stage_flops;  ///< a token's, of each stage
  int fullest = 0;                  ///< the stage whose ranks hold most
  Rehearsal rehearsal;              ///< of its first rank, which has the most sequences
  /// The same were the receive buffers of all MoE layers full; where they are bounded.
  std::optional<Rehearsal> at_bound;

  int first_rank_of(int stage) const;
  bool fits() const { return rehearsal.reach <= memory; }
  bool fits_at_bound() const { return !at_bound || at_bound->reach <= memory; }
};

/// run.device_memory, or 80e9 bytes when that is left out.
std::int64_t planned_memory(const RunSettings& settings);

/// The stage whose ranks hold most, and what its first rank holds and sends.
struct FullestRank {
  int stage = 0;
  Rehearsal rehearsal;
};
FullestRank fullest_rank(const RunSettings& settings, const Decomposition& parts);

/// Changes to the deck each of which alone makes the run fit, such as "train.recompute=block"; when none does, one that
/// joins several, "train.recompute=block train.micro_batch=1"; empty when that is not enough either.
std::vector<std::string> changes_that_fit(const RunSettings& settings, int ranks);

}  // namespace moesaic
