#pragma once
/// Where every rank of a run stands, and when the run must be given up. No clock and no network: times are arguments.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "moesaic/train/phases.hpp"

namespace moesaic {

using Seconds = std::chrono::duration<double>;

/// How long a rank may stand still: a fixed time, or what the steps so far suggest.
class StallLimit {
 public:
  static constexpr std::size_t first_steps = 10;  ///< before them nothing is known about the run's pace
  static constexpr std::size_t window = 1000;     ///< steps that are remembered

  explicit StallLimit(std::optional<Seconds> fixed = std::nullopt) : fixed_(fixed) {}

  void step_finished(Seconds took);
  /// `fixed`, else 600 s before ten steps, then max(60 s, 5 x the 99th percentile of the latest steps).
  Seconds value() const;

 private:
  std::optional<Seconds> fixed_;
  std::vector<Seconds> latest_;  ///< a ring
  std::size_t next_ = 0;
};

/// When to act so that the job is over, and not only noticed, within `limit`: ending it takes a launcher up to 3 s.
Seconds time_to_act(Seconds limit);

/// What a rank says of itself.
struct Position {
  std::int64_t step = 0;  ///< the one under way
  Phase phase = Phase::start;
  std::int64_t changes = 0;  ///< signs of progress since the step began

  friend bool operator==(const Position&, const Position&) = default;
};

enum class Condition : std::uint8_t {
  unheard,  ///< nothing came yet
  alive,
  failed,  ///< an error is ending it
  lost,    ///< its connection broke off: the process is gone
  left,    ///< it came to the end of the run
};

struct RankState {
  std::string host;
  Condition condition = Condition::unheard;
  Position position;
  Seconds moved{};  ///< when the position last changed
  Seconds heard{};  ///< when it was last heard of
};

/// What is known of all ranks. All times are from one clock that begins at 0.
class ProgressBoard {
 public:
  /// One host name a rank.
  explicit ProgressBoard(const std::vector<std::string>& hosts);

  void hear(int rank, Condition condition, const Position& position, Seconds now);
  /// The connection of `rank` broke off; means nothing once it has failed or left.
  void lose(int rank);

  int size() const { return static_cast<int>(ranks_.size()); }
  const RankState& operator[](int rank) const { return ranks_[static_cast<std::size_t>(rank)]; }

 private:
  std::vector<RankState> ranks_;
};

/// Why a run is given up.
enum class Stall : std::uint8_t {
  failure,  ///< ranks failed
  loss,     ///< ranks are gone
  silence,  ///< no progress; some ranks send no heartbeats (stopped, or their node is gone)
  lag,      ///< no progress; all send heartbeats, some are behind the others
  tie,      ///< no progress; all send heartbeats from the same place
};

struct Finding {
  Stall stall;
  std::vector<int> laggards;  ///< in rank order; every rank that is still there when none is behind

  friend bool operator==(const Finding&, const Finding&) = default;
};

/// Heartbeats come at least four times a second; after this time without one a rank counts as silent.
inline constexpr Seconds silent_after{2};

/// The ranks to blame: at once for failed and lost ones, else when some rank has not moved for `limit`. Ranks that have
/// left or were never heard of do not end a run.
std::optional<Finding> find_stall(const ProgressBoard& board, Seconds now, Seconds limit);

/// A sentence that names the laggards, and the table of all ranks, laggards first; beyond 16 ranks those of equal
/// state share a line.
std::string describe(const ProgressBoard& board, const Finding& finding, Seconds now);

}  // namespace moesaic
