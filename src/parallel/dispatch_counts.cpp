#include "dispatch_counts.hpp"

#include <algorithm>

namespace moesaic {

DispatchCounts::DispatchCounts(Communicator& ranks, std::int64_t tokens, const Counts& rows, const Counts& slots)
    : rank_(ranks.rank()), size_(ranks.size()) {
  Counts mine{tokens};
  mine.insert(mine.end(), rows.begin(), rows.end());
  mine.insert(mine.end(), slots.begin(), slots.end());
  all_.resize(mine.size() * static_cast<std::size_t>(size_));
  ranks.all_gather(host_view(std::as_const(mine).data(), {std::ssize(mine)}),
                   host_view(all_.data(), {std::ssize(all_)}));
}

Counts DispatchCounts::leaving() const {
  Counts counts;
  for (int to = 0; to < size_; ++to) counts.push_back(rows(rank_, to));
  return counts;
}

Counts DispatchCounts::arriving() const {
  Counts counts;
  for (int from = 0; from < size_; ++from) counts.push_back(rows(from, rank_));
  return counts;
}

std::int64_t DispatchCounts::rows_at(int to) const {
  std::int64_t sum = 0;
  for (int from = 0; from < size_; ++from) sum += rows(from, to);
  return sum;
}

std::int64_t DispatchCounts::slots_at(int to) const {
  std::int64_t sum = 0;
  for (int from = 0; from < size_; ++from) sum += slots(from, to);
  return sum;
}

std::optional<ExpertOverflow> DispatchCounts::overflow(const ReceiveBound::Capacity& capacity,
                                                       std::int64_t slots_of_a_row) const {
  bool fits = true;
  std::int64_t tokens = 0;
  for (int rank = 0; rank < size_; ++rank) {
    fits &= rows_at(rank) <= capacity.rows && slots_at(rank) <= capacity.slots;
    tokens = std::max(tokens, tokens_of(rank));
  }
  if (fits) return std::nullopt;
  // Were all tokens of a range to go to one rank, its buffers would hold them.
  const std::int64_t range = std::min(capacity.rows, capacity.slots / slots_of_a_row) / size_;
  return ExpertOverflow{.rows = rows_at(rank_),
                        .slots = slots_at(rank_),
                        .most_rows = capacity.rows,
                        .most_slots = capacity.slots,
                        .range = range,
                        .rounds = (tokens + range - 1) / range};
}

}  // namespace moesaic
