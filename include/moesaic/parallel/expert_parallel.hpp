#pragma once
/// Expert parallelism: tokens travel to the ranks that hold their experts and come back as partial sums.

#include "moesaic/comm/communicator.hpp"
#include "moesaic/layers/expert_exchange.hpp"

namespace moesaic {

/// Dispatch and combine by all-to-all over the expert group, as DeepEP does: a token travels once to each rank that holds
/// any of its experts, with its expert indices and weights, and comes back as one partial sum a rank; these are added in
/// rank order. Rank r of the group holds experts [r * n, (r + 1) * n), n = experts / ranks. Host memory: receive buffers
/// are as large as the counts say.
class ExpertParallel : public ExpertExchange {
 public:
  /// `ranks`: the expert group; must outlive this and every passage.
  explicit ExpertParallel(Communicator& ranks) : ranks_(&ranks) {}

  std::unique_ptr<ExpertPassage> begin(const LayerContext&, ConstView indices, ConstView weights,
                                       std::int64_t experts) override;

 private:
  Communicator* ranks_;
};

/// The identity on one rank, else ExpertParallel.
std::unique_ptr<ExpertExchange> make_expert_exchange(Communicator& expert_ranks);

/// Sums router statistics over the ranks that share a sequence, or in batch scope a micro-batch.
class SharedStatistics : public StatisticsExchange {
 public:
  explicit SharedStatistics(Communicator& ranks) : ranks_(&ranks) {}
  void sum(View counts, View probability_sums) override;

 private:
  Communicator* ranks_;
};

}  // namespace moesaic
