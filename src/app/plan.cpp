#include "moesaic/app/plan.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

#include "moesaic/app/deck.hpp"
#include "moesaic/app/option_values.hpp"
#include "moesaic/base/log.hpp"
#include "moesaic/base/text.hpp"

namespace moesaic {
namespace {

using Words = std::vector<std::string>;

/// Takes "FLAG VALUE" or "FLAG=VALUE" out of the words.
std::optional<std::string> take_value(Words& words, const std::string& flag) {
  const auto is_flag = [&](const std::string& word) { return word == flag || word.starts_with(flag + "="); };
  const auto found = std::ranges::find_if(words, is_flag);
  if (found == words.end()) return std::nullopt;
  const bool joined = *found != flag;
  MOESAIC_VALIDATE(joined || found + 1 != words.end(), "{} is the last word; write {} N, a number of ranks", flag,
                   flag);
  const std::string value = joined ? found->substr(flag.size() + 1) : *(found + 1);
  words.erase(found, found + (joined ? 1 : 2));
  MOESAIC_VALIDATE(std::ranges::none_of(words, is_flag), "{} is given twice (which one counts?); remove one", flag);
  return value;
}

int ranks_from(const std::string& flag, const std::string& text) {
  constexpr std::int64_t most = 1 << 20;
  const std::int64_t ranks = parse_integer(flag, text);
  MOESAIC_VALIDATE(1 <= ranks && ranks <= most, "{} = {} is no number of ranks; use 1 to {}", flag, text, most);
  return static_cast<int>(ranks);
}

Machine machine_from(Words& words) {
  Machine machine;
  const auto ranks = take_value(words, "--ranks"), per_node = take_value(words, "--ranks-per-node");
  MOESAIC_VALIDATE(ranks.has_value(),
                   "moesaic plan needs --ranks N (the grid is cut for a number of ranks); write moesaic plan DECK "
                   "--ranks N [key=value ...]");
  machine.ranks = ranks_from("--ranks", *ranks);
  if (per_node) machine.ranks_per_node = ranks_from("--ranks-per-node", *per_node);
  return machine;
}

void warn_of_wide_experts(const ProcessGrid& grid, const Machine& machine) {
  const int expert = grid.extent(Axis::expert);
  if (machine.holds_in_a_node(expert)) return;
  log_warn(
      "an expert group of {} ranks leaves the node of {} (tokens then wait for the network in every layer); let "
      "grid.expert divide {}",
      expert, machine.ranks_per_node, machine.ranks_per_node);
}

/// Even routing fits, and the most uneven does not.
void warn_of_full_buffers(const RunSettings& settings, const RunPlan& plan) {
  if (!plan.fits() || plan.fits_at_bound()) return;
  log_warn(
      "were all MoE layers at moe.receive_bound = {}, a rank would need {} and run.device_memory is {} (routing that "
      "uneven would end the run); lower moe.receive_bound or train.micro_batch",
      settings.receive_bound, format_bytes(plan.at_bound->reach), format_bytes(plan.memory));
}

/// "activations 61.2 GiB, moments 9.50 GiB, gradients 4.75 GiB".
std::string largest_terms(const Rehearsal& rank) {
  std::array<int, num_labels> order;
  for (int label = 0; label < num_labels; ++label) order[static_cast<std::size_t>(label)] = label;
  std::ranges::stable_sort(order, std::ranges::greater{},
                           [&](int label) { return rank.of(static_cast<Label>(label)); });
  std::string text;
  for (const int label : std::span(order).first(3))
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name_of(static_cast<Label>(label)),
                        format_bytes(rank.of(static_cast<Label>(label))));
  return text;
}

std::string advice(const RunSettings& settings, int ranks) {
  const std::vector<std::string> changes = changes_that_fit(settings, ranks);
  if (changes.empty())
    return "no recomputation, micro-batch, storage or number of stages makes it fit, nor 16 times as many ranks; cut "
           "the model by grid.pipeline and grid.expert together, or the sequences by grid.context";
  if (changes.size() == 1) return "this would do: " + changes[0];
  return fmt::format("any one of these would do: {}", fmt::join(changes, ", "));
}

void refuse_what_does_not_fit(const RunSettings& settings, const RunPlan& plan, int ranks) {
  if (plan.fits()) return;
  const std::string of_stage = plan.stage_flops.size() > 1 ? fmt::format(" of stage {}", plan.fullest) : "";
  throw InputError(fmt::format("a rank{} needs {} and run.device_memory is {} (largest: {}); {}", of_stage,
                               format_bytes(plan.rehearsal.reach), format_bytes(plan.memory),
                               largest_terms(plan.rehearsal), advice(settings, ranks)));
}

}  // namespace

void print_plan(Words words) {
  const Machine machine = machine_from(words);
  MOESAIC_VALIDATE(words.size() >= 2 && !words[1].starts_with("-") && words[1].find('=') == std::string::npos,
                   "moesaic plan needs a deck; write moesaic plan DECK --ranks N [key=value ...]");
  const RunSettings settings = read_deck(words[1], {words.begin() + 2, words.end()});
  const RunPlan plan(settings, machine.ranks);
  fmt::print("{}", plan_text(settings, plan, machine));
  std::fflush(stdout);
  warn_of_wide_experts(plan.parts.grid, machine);
  warn_of_full_buffers(settings, plan);
  refuse_what_does_not_fit(settings, plan, machine.ranks);
}

}  // namespace moesaic
