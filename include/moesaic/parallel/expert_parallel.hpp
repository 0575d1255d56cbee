#pragma once
/// Expert parallelism: tokens travel to the ranks that hold their experts and come back as partial sums.

#include "moesaic/comm/communicator.hpp"
#include "moesaic/layers/expert_exchange.hpp"

namespace moesaic {

/// What an exchange goes by: what tokens chose, or as if every expert got its share (a rehearsal routes nothing).
enum class ExpertLoad : std::uint8_t { counted, even };

/// Rows that a rank sends to each of `ranks` (itself counted) when each token goes to top_k random experts:
/// tokens (1 - (1 - 1/ranks)^top_k).
std::int64_t even_dispatch_rows(std::int64_t tokens, std::int64_t top_k, int ranks);

/// Dispatch and combine by all-to-all over the expert group, as DeepEP does: a token travels once to each rank that holds
/// any of its experts, with its expert indices and weights, and comes back as one partial sum a rank; these are added in
/// rank order. Rank r of the group holds experts [r * n, (r + 1) * n), n = experts / ranks. Host memory: receive buffers
/// are as large as the counts say.
class ExpertParallel : public ExpertExchange {
 public:
  /// `ranks`: the expert group; must outlive this and every passage.
  explicit ExpertParallel(Communicator& ranks, ExpertLoad load = ExpertLoad::counted) : ranks_(&ranks), load_(load) {}

  std::unique_ptr<ExpertPassage> begin(const LayerContext&, ConstView indices, ConstView weights,
                                       std::int64_t experts) override;

 private:
  Communicator* ranks_;
  ExpertLoad load_;
};

/// The identity on one rank, else ExpertParallel.
std::unique_ptr<ExpertExchange> make_expert_exchange(Communicator& expert_ranks, ExpertLoad load = ExpertLoad::counted);

/// Sums router statistics over the ranks that share a sequence, or in batch scope a micro-batch.
class SharedStatistics : public StatisticsExchange {
 public:
  explicit SharedStatistics(Communicator& ranks) : ranks_(&ranks) {}
  void sum(View counts, View probability_sums) override;

 private:
  Communicator* ranks_;
};

}  // namespace moesaic
