#include "moesaic/train/progress_board.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "moesaic/base/text.hpp"

namespace moesaic {
namespace {

constexpr int max_lines = 16;

bool silent(const RankState& rank, Seconds now) {
  return rank.condition == Condition::unheard ||
         (rank.condition == Condition::alive && now - rank.heard > silent_after);
}

bool present(const RankState& rank) { return rank.condition == Condition::alive; }

template <class Predicate> std::vector<int> ranks_that(const ProgressBoard& board, Predicate&& predicate) {
  std::vector<int> ranks;
  for (int r = 0; r < board.size(); ++r)
    if (predicate(board[r])) ranks.push_back(r);
  return ranks;
}

std::vector<int> ranks_in(const ProgressBoard& board, Condition condition) {
  return ranks_that(board, [&](const RankState& rank) { return rank.condition == condition; });
}

/// Ranks go through a step in the same order of phases, so the number of changes tells who is behind.
auto place(const RankState& rank) { return std::tuple(rank.position.step, rank.position.changes); }

/// Of the ranks that send heartbeats, those at the least place.
std::vector<int> hindmost(const ProgressBoard& board, const std::vector<int>& present) {
  const auto behind = [&](int a, int b) { return place(board[a]) < place(board[b]); };
  const auto least = place(board[*std::min_element(present.begin(), present.end(), behind)]);
  std::vector<int> ranks;
  for (int r : present)
    if (place(board[r]) == least) ranks.push_back(r);
  return ranks;
}

/// "0-3, 5".
std::string list_of(const std::vector<int>& ranks) {
  std::string text;
  for (std::size_t i = 0; i < ranks.size();) {
    std::size_t last = i;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", ranks[i]);
    if (last > i) text += fmt::format("{}{}", last > i + 1 ? "-" : ", ", ranks[last]);
    i = last + 1;
  }
  return text;
}

std::string state_of(const RankState& rank, Seconds now) {
  switch (rank.condition) {
    case Condition::unheard: return "never heard of";
    case Condition::failed: return "failed";
    case Condition::lost: return "gone";
    case Condition::left: return "at the end";
    case Condition::alive: break;
  }
  return silent(rank, now) ? "silent" : "alive";
}

std::string what_happened(Stall stall, bool one) {
  switch (stall) {
    case Stall::failure: return "failed";
    case Stall::loss: return one ? "is gone (its process ended)" : "are gone (their processes ended)";
    case Stall::silence: return one ? "is silent (stopped, or cut off)" : "are silent (stopped, or cut off)";
    case Stall::lag: return one ? "is behind the others" : "are behind the others";
    case Stall::tie: break;
  }
  return one ? "stands still" : "stand still, none behind the others";
}

std::string sentence(const ProgressBoard& board, const Finding& finding, Seconds now) {
  const RankState& first = board[finding.laggards.front()];
  const bool one = finding.laggards.size() == 1;
  const bool stalled = finding.stall != Stall::failure && finding.stall != Stall::loss;
  return fmt::format("{} {} {}, in step {}, {}{}; the job ends", one ? "rank" : "ranks", list_of(finding.laggards),
                     what_happened(finding.stall, one), first.position.step, name_of(first.position.phase),
                     stalled ? fmt::format(", no progress for {}", format_duration((now - first.moved).count())) : "");
}

/// Ranks that share a line of the table.
struct Group {
  std::vector<int> ranks;
  const RankState* state;  ///< of the first; `since` is the longest of all
  Seconds since;
  bool laggard;
};

bool alike(const Group& group, const RankState& rank, bool laggard, Seconds now) {
  return group.laggard == laggard && group.state->position.step == rank.position.step &&
         group.state->position.phase == rank.position.phase && state_of(*group.state, now) == state_of(rank, now);
}

std::vector<Group> groups_of(const ProgressBoard& board, const Finding& finding, Seconds now) {
  std::vector<Group> groups;
  const bool share = board.size() > max_lines;
  for (int r = 0; r < board.size(); ++r) {
    const RankState& rank = board[r];
    const bool laggard = std::binary_search(finding.laggards.begin(), finding.laggards.end(), r);
    const auto same = [&](const Group& group) { return share && alike(group, rank, laggard, now); };
    auto group = std::find_if(groups.begin(), groups.end(), same);
    if (group == groups.end()) group = groups.insert(groups.end(), Group{{}, &rank, Seconds(0), laggard});
    group->ranks.push_back(r);
    group->since = std::max(group->since, now - rank.moved);
  }
  std::stable_partition(groups.begin(), groups.end(), [](const Group& group) { return group.laggard; });
  return groups;
}

std::string host_of(const ProgressBoard& board, const Group& group) {
  const bool one =
      std::all_of(group.ranks.begin(), group.ranks.end(), [&](int r) { return board[r].host == group.state->host; });
  return one ? group.state->host : group.state->host + ", ...";
}

}  // namespace

void StallLimit::step_finished(Seconds took) {
  if (latest_.size() < window) {
    latest_.push_back(took);
    return;
  }
  latest_[next_] = took;
  next_ = (next_ + 1) % window;
}

Seconds StallLimit::value() const {
  if (fixed_) return *fixed_;
  if (latest_.size() < first_steps) return Seconds(600);
  std::vector<Seconds> times = latest_;
  const auto percentile = times.begin() + static_cast<std::ptrdiff_t>((times.size() * 99 + 99) / 100 - 1);
  std::nth_element(times.begin(), percentile, times.end());
  return std::max(Seconds(60), 5 * *percentile);
}

Seconds time_to_act(Seconds limit) { return limit - std::min(Seconds(3), 0.3 * limit); }

ProgressBoard::ProgressBoard(const std::vector<std::string>& hosts) {
  for (const std::string& host : hosts) ranks_.emplace_back().host = host;
}

void ProgressBoard::hear(int rank, Condition condition, const Position& position, Seconds now) {
  RankState& state = ranks_[static_cast<std::size_t>(rank)];
  if (state.condition == Condition::unheard || position != state.position) state.moved = now;
  state.condition = condition;
  state.position = position;
  state.heard = now;
}

void ProgressBoard::lose(int rank) {
  Condition& condition = ranks_[static_cast<std::size_t>(rank)].condition;
  if (condition == Condition::alive) condition = Condition::lost;
}

std::optional<Finding> find_stall(const ProgressBoard& board, Seconds now, Seconds limit) {
  if (auto failed = ranks_in(board, Condition::failed); !failed.empty()) return Finding{Stall::failure, failed};
  if (auto lost = ranks_in(board, Condition::lost); !lost.empty()) return Finding{Stall::loss, lost};

  const auto stalled = [&](const RankState& rank) { return present(rank) && now - rank.moved >= limit; };
  if (ranks_that(board, stalled).empty()) return std::nullopt;
  if (auto ranks = ranks_that(board, [&](const RankState& rank) { return silent(rank, now); }); !ranks.empty())
    return Finding{Stall::silence, ranks};
  const std::vector<int> all = ranks_that(board, present), last = hindmost(board, all);
  return Finding{last == all ? Stall::tie : Stall::lag, last};
}

std::string describe(const ProgressBoard& board, const Finding& finding, Seconds now) {
  const std::vector<Group> groups = groups_of(board, finding, now);
  std::size_t ranks = 5, hosts = 4;
  for (const Group& group : groups) {
    ranks = std::max(ranks, list_of(group.ranks).size());
    hosts = std::max(hosts, host_of(board, group).size());
  }
  std::string text = sentence(board, finding, now);
  text += fmt::format("\n{:>{}}  {:<{}}  {:>8}  {:<10}  {:>9}  {}", "ranks", ranks, "host", hosts, "step", "phase",
                      "since", "state");
  for (const Group& group : groups) {
    const auto& [host, condition, position, moved, heard] = *group.state;
    const bool known = condition != Condition::unheard;
    text += fmt::format("\n{:>{}}  {:<{}}  {:>8}  {:<10}  {:>9}  {}{}", list_of(group.ranks), ranks,
                        host_of(board, group), hosts, known ? fmt::format("{}", position.step) : "-",
                        known ? name_of(position.phase) : "-", known ? format_duration(group.since.count()) : "-",
                        state_of(*group.state, now), group.laggard ? "  <-" : "");
  }
  return text;
}

}  // namespace moesaic
