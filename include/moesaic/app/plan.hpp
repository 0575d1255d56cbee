#pragma once
/// moesaic plan: what a run will hold, compute and exchange, as text.

#include <string>
#include <vector>

#include "moesaic/train/run_plan.hpp"

namespace moesaic {

/// Ranks of a job, and of each of its nodes.
struct Machine {
  int ranks = 0;
  int ranks_per_node = 8;

  /// Whether groups of so many consecutive ranks, one after the other, each lie within a node.
  bool holds_in_a_node(int consecutive) const { return ranks <= ranks_per_node || ranks_per_node % consecutive == 0; }
};

/// Model, decomposition, bytes of the fullest rank by term, FLOPs, exchange by axis and, where there are several stages,
/// their schedule; 100 columns at most but for the schedule's 120.
std::string plan_text(const RunSettings& settings, const RunPlan& plan, const Machine& machine);

/// words: plan DECK --ranks N [--ranks-per-node N] [key=value ...]. Prints the plan, warns when an expert group leaves
/// the node, and when uneven routing could need more than run.device_memory. InputError for what is wrong on the command
/// line or in the deck, and for a run that does not fit run.device_memory, naming what takes most and which keys would make
/// it fit.
void print_plan(std::vector<std::string> words);

}  // namespace moesaic
