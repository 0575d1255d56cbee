#pragma once
/// What the ranks of an expert group send each other in one passage, known to all of them.

#include <optional>
#include <vector>

#include "moesaic/parallel/expert_parallel.hpp"

namespace moesaic {

using Counts = std::vector<std::int64_t>;

class DispatchCounts {
 public:
  /// This rank's tokens, how many rows it sends to each rank, and how many slots of that rank's experts these fill.
  /// Collective.
  DispatchCounts(Communicator& ranks, std::int64_t tokens, const Counts& rows, const Counts& slots);

  /// Rows from this rank to each, and from each to this.
  Counts leaving() const;
  Counts arriving() const;
  /// Slots that fill here.
  std::int64_t slots() const { return slots_at(rank_); }
  /// Something when the buffers of some rank do not hold what would arrive: on all ranks alike.
  std::optional<ExpertOverflow> overflow(const ReceiveBound::Capacity& capacity, std::int64_t slots_of_a_row) const;

 private:
  std::int64_t tokens_of(int from) const { return at(from, 0); }
  std::int64_t rows(int from, int to) const { return at(from, 1 + to); }
  std::int64_t slots(int from, int to) const { return at(from, 1 + size_ + to); }
  std::int64_t at(int from, int place) const {
    return all_[static_cast<std::size_t>(from) * static_cast<std::size_t>(1 + 2 * size_) +
                static_cast<std::size_t>(place)];
  }
  std::int64_t rows_at(int to) const;
  std::int64_t slots_at(int to) const;

  int rank_, size_;
  Counts all_;  ///< [ranks, 1 + 2 * ranks]: tokens, rows, slots
};

}  // namespace moesaic
