// Which keys would make a run fit: each is tried, by rehearsing the run with it.
#include <functional>

#include "moesaic/train/run_plan.hpp"

namespace moesaic {
namespace {

/// One thing to try: how the deck would say it, and what it does to a run.
struct Change {
  std::string words;
  RunSettings settings;
  int ranks = 1;
};

bool is_legal(const Change& change) {
  try {
    return !Decomposition(change.settings, change.ranks).stages.empty();
  } catch (const InputError&) {
    return false;
  }
}

bool fits(const Change& change) {
  try {
    const Decomposition parts(change.settings, change.ranks);
    return fullest_rank(change.settings, parts).rehearsal.reach <= planned_memory(change.settings);
  } catch (const InputError&) {
    return false;  // no such grid, or beyond all addresses
  }
}

/// The first of ever stronger changes that fits, if any does: then the last does.
void try_in_turn(std::vector<std::string>& found, const std::vector<Change>& ever_stronger) {
  if (ever_stronger.empty() || !fits(ever_stronger.back())) return;
  for (const Change& change : ever_stronger) {
    if (!fits(change)) continue;
    found.push_back(change.words);
    return;
  }
}

/// The first that fits, of changes of which none is the strongest.
void try_all(std::vector<std::string>& found, const std::vector<Change>& changes) {
  for (const Change& change : changes) {
    if (!fits(change)) continue;
    found.push_back(change.words);
    return;
  }
}

std::vector<Change> recompute_changes(const Change& from) {
  std::vector<Change> changes;
  const auto add = [&](const char* words, Recompute recompute) {
    changes.push_back(from);
    changes.back().words += words;
    changes.back().settings.recompute = recompute;
  };
  if (from.settings.recompute == Recompute::none) add("train.recompute=selective", Recompute::selective);
  if (from.settings.recompute != Recompute::block) add("train.recompute=block", Recompute::block);
  return changes;
}

std::vector<Change> micro_batch_changes(const Change& from) {
  std::vector<Change> changes;
  for (std::int64_t size = from.settings.micro_batch / 2; size >= 1; size /= 2) {
    changes.push_back(from);
    changes.back().words += fmt::format("train.micro_batch={}", size);
    changes.back().settings.micro_batch = size;
  }
  return changes;
}

std::vector<Change> moment_changes(const Change& from) {
  if (from.settings.optimizer.moments != DType::f32) return {};
  Change change = from;
  change.words += "optimizer.moments=bf16";
  change.settings.optimizer.moments = DType::bf16;
  return {change};
}

std::vector<Change> reduce_changes(const Change& from) {
  if (from.settings.reduce_every_micro_batch) return {};
  Change change = from;
  change.words += "train.reduce=micro_batch";
  change.settings.reduce_every_micro_batch = true;
  return {change};
}

/// Experts over two, four or eight times as many ranks.
std::vector<Change> expert_changes(const Change& from) {
  std::vector<Change> changes;
  for (const int times : {2, 4, 8}) {
    Change change = from;
    change.settings.grid.expert *= times;
    change.words += fmt::format("grid.expert={}", change.settings.grid.expert);
    if (is_legal(change)) changes.push_back(change);
  }
  return changes;
}

/// Another number of stages, of shards if the deck says them. More stages hold fewer layers each, but more micro-batches of
/// them at once, and over fewer data ranks: what is best follows from no rule.
std::vector<Change> pipeline_changes(const Change& from) {
  std::vector<Change> changes;
  const auto add = [&](int stages, int shards) {
    Change change = from;
    GridRequest& grid = change.settings.grid;
    grid.pipeline = stages;
    change.words += fmt::format("grid.pipeline={}", stages);
    if (grid.shard != 0) change.words += fmt::format(" grid.shard={}", shards);
    if (grid.shard != 0) grid.shard = shards;
    if (is_legal(change)) changes.push_back(change);
  };
  const GridRequest& grid = from.settings.grid;
  for (const int times : {2, 4, 8})
    if (grid.shard % times == 0) add(grid.pipeline * times, grid.shard / times);
  for (const int part : {2, 4})
    if (grid.pipeline % part == 0) add(grid.pipeline / part, grid.shard * part);
  return changes;
}

/// More shards: twice as many ranks, and so on.
std::vector<Change> rank_changes(const Change& from) {
  constexpr int most_ranks = 1 << 16;
  std::vector<Change> changes;
  for (int ranks = 2 * from.ranks; ranks <= most_ranks && ranks <= 16 * from.ranks; ranks *= 2) {
    changes.push_back(from);
    changes.back().words += fmt::format("--ranks {}", ranks);
    changes.back().ranks = ranks;
    GridRequest& grid = changes.back().settings.grid;
    if (grid.shard == 0) continue;
    grid.shard *= ranks / from.ranks;
    changes.back().words += fmt::format(" grid.shard={}", grid.shard);
  }
  return changes;
}

/// All that costs time or precision but no rank, at its strongest.
Change all_together(Change change) {
  for (const auto& more : {reduce_changes, recompute_changes, micro_batch_changes, moment_changes}) {
    const std::vector<Change> changes = more(change);
    if (changes.empty()) continue;
    change = changes.back();
    change.words += ' ';
  }
  return change;
}

}  // namespace

std::vector<std::string> changes_that_fit(const RunSettings& settings, int ranks) {
  std::vector<std::string> found;
  const Change now{"", settings, ranks};
  for (const auto& changes : {reduce_changes, recompute_changes, micro_batch_changes, moment_changes, expert_changes})
    try_in_turn(found, changes(now));
  try_all(found, pipeline_changes(now));
  try_in_turn(found, rank_changes(now));
  if (!found.empty()) return found;
  Change together = all_together(now);
  if (fits(together)) {
    together.words.pop_back();
    return {together.words};
  }
  try_all(found, pipeline_changes(together));
  try_in_turn(found, rank_changes(together));
  return found;
}

}  // namespace moesaic
