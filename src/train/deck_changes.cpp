#include "moesaic/train/deck_changes.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <sstream>
#include <string_view>

#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

/// Whole sections, and single keys.
constexpr std::array<std::string_view, 3> free_sections{"grid.", "checkpoint.", "log."};
constexpr std::array<std::string_view, 19> free_keys{
    "train.prediction_weight", "run.name",          "run.directory",     "run.device",         "run.device_memory",
    "run.wall_limit",          "run.watchdog",      "model.init",        "data.path",          "data.validation",
    "data.validate_every",     "train.steps",       "train.micro_batch", "train.recompute",    "train.reduce",
    "train.deterministic",     "train.max_skipped", "moe.receive_bound", "train.profile_steps"};

bool may_change(std::string_view key) {
  const auto begins = [key](std::string_view section) { return key.starts_with(section); };
  return std::any_of(free_sections.begin(), free_sections.end(), begins) ||
         std::find(free_keys.begin(), free_keys.end(), key) != free_keys.end();
}

std::map<std::string, std::string> values_of(const std::string& deck) {
  std::map<std::string, std::string> values;
  std::istringstream lines(deck);
  std::string section;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("[")) section = line.substr(1, line.find(']') - 1) + ".";
    const auto equals = line.find(" = ");
    if (equals != std::string::npos) values[section + line.substr(0, equals)] = line.substr(equals + 3);
  }
  return values;
}

std::string value_in(const std::map<std::string, std::string>& values, const std::string& key) {
  const auto found = values.find(key);
  return found == values.end() ? "" : found->second;
}

std::string shown(const std::string& value) { return value.empty() ? "left out" : value; }

}  // namespace

std::vector<DeckChange> deck_changes(const std::string& before, const std::string& now, const std::string& defaults) {
  auto old_values = values_of(before);
  const auto new_values = values_of(now);
  old_values.merge(values_of(defaults));  // what is there wins
  std::set<std::string> keys;
  for (const auto& [key, value] : old_values) keys.insert(key);
  for (const auto& [key, value] : new_values) keys.insert(key);
  std::vector<DeckChange> changes;
  for (const std::string& key : keys) {
    const std::string was = value_in(old_values, key), is = value_in(new_values, key);
    if (was != is) changes.push_back({key, was, is, may_change(key)});
  }
  return changes;
}

void refuse_changes(const std::vector<DeckChange>& changes, const std::string& directory) {
  std::string refused;
  for (const DeckChange& change : changes)
    if (!change.allowed)
      refused += fmt::format("{}{} was {} and is {}", refused.empty() ? "" : ", ", change.key, shown(change.before),
                             shown(change.now));
  MOESAIC_VALIDATE(
      refused.empty(),
      "{} holds checkpoints of another deck: {} (the run would no longer be the one that was begun); restore "
      "what it was, or name another run.directory",
      directory, refused);
}

}  // namespace moesaic
