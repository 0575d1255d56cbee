#pragma once
/// Expert parallelism: tokens travel to the ranks that hold their experts and come back as partial sums.

#include "moesaic/comm/communicator.hpp"
#include "moesaic/layers/expert_exchange.hpp"

namespace moesaic {

/// What an exchange goes by: what tokens chose, or (a rehearsal routes nothing) as if every expert got its share, or as if
/// receive buffers were full.
enum class ExpertLoad : std::uint8_t { counted, even, full };

/// How much may arrive at a rank: so many times the mean load of a full micro-batch, when all ranks of the group send one
/// and choose experts at random.
struct ReceiveBound {
  double factor = 0;        ///< moe.receive_bound; 0: buffers grow to what the counts say
  std::int64_t tokens = 0;  ///< of a full micro-batch, on each rank

  /// What the buffers hold: rows, and slots of this rank's experts. Never less than one token of each rank needs.
  struct Capacity {
    std::int64_t rows = 0, slots = 0;
  };
  Capacity capacity(std::int64_t top_k, std::int64_t experts_per_rank, int ranks) const;
};

/// Rows that a rank sends to each of `ranks` (itself counted) when each token goes to top_k random experts:
/// tokens (1 - (1 - 1/ranks)^top_k).
std::int64_t even_dispatch_rows(std::int64_t tokens, std::int64_t top_k, int ranks);

/// Dispatch and combine by all-to-all over the expert group, as DeepEP does: a token travels once to each rank that holds
/// any of its experts, with its expert indices and weights, and comes back as one partial sum a rank; these are added in
/// rank order. Rank r of the group holds experts [r * n, (r + 1) * n), n = experts / ranks. The host waits once a passage, for
/// the counts of tokens; all ranks then know what would arrive everywhere, and agree whether it exceeds the bound before
/// anything else moves. Receive buffers are as large as the counts say.
class ExpertParallel : public ExpertExchange {
 public:
  /// `ranks`: the expert group; must outlive this and every passage.
  explicit ExpertParallel(Communicator& ranks, const ReceiveBound& bound = {}, ExpertLoad load = ExpertLoad::counted)
      : ranks_(&ranks), bound_(bound), load_(load) {}

  std::unique_ptr<ExpertPassage> begin(const LayerContext&, ConstView indices, ConstView weights,
                                       std::int64_t experts) override;

 private:
  Communicator* ranks_;
  ReceiveBound bound_;
  ExpertLoad load_;
};

/// The identity on one rank, else ExpertParallel.
std::unique_ptr<ExpertExchange> make_expert_exchange(Communicator& expert_ranks, const ReceiveBound& bound = {},
                                                     ExpertLoad load = ExpertLoad::counted);

/// Sums router statistics over the ranks that share a sequence, or in batch scope a micro-batch.
class SharedStatistics : public StatisticsExchange {
 public:
  explicit SharedStatistics(Communicator& ranks) : ranks_(&ranks) {}
  void sum(View counts, View probability_sums) override;

 private:
  Communicator* ranks_;
};

}  // namespace moesaic
