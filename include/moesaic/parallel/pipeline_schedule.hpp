#pragma once
/// Pipeline schedules as pure data, their simulation and their drawing. No MPI, no GPU.
///
/// p stages hold v chunks of blocks each; virtual stage i = chunk * p + stage owns the i-th run of the model's blocks.
/// Activations go from virtual stage i to i + 1, gradients from i to i - 1. A schedule lists what one stage does, in
/// order; the transfers follow from it. In every schedule each virtual stage takes its backwards, and its weight
/// gradients, in the order of the micro-batches, so that sums of gradients do not depend on the schedule.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moesaic {

/// one_f_one_b: Narayanan et al. 2021 (arXiv 2104.04473), section 2.2.1. interleaved: the same, section 2.2.2.
/// zero_bubble: ZB-H1 of Qi et al. 2023 (arXiv 2401.10241), section 2.
enum class ScheduleKind : std::uint8_t { one_f_one_b, interleaved, zero_bubble };
/// As the deck says it: "1f1b", "interleaved", "zero_bubble".
const char* name_of(ScheduleKind kind);

/// `backward` is both halves at once: the gradient of the input and that of the weights.
enum class Work : std::uint8_t { forward, backward, backward_input, backward_weight };

struct ScheduleStep {
  Work work = Work::forward;
  std::int64_t micro_batch = 0;
  int chunk = 0;

  friend bool operator==(const ScheduleStep&, const ScheduleStep&) = default;
};

/// What `stage` does in which order. Micro-batches may be fewer than the stages, or none.
///
/// Pass n of a stage is, group by group of p micro-batches, chunk by chunk, micro-batch by micro-batch; backward the
/// chunks come last first. The stage runs `w` forwards, then one forward and one backward in turn, then what is left:
///     1f1b, zero_bubble, one chunk: w = p - 1 - stage
///     interleaved:                  w = 2 (p - 1 - stage) + (v - 1) p
/// Example, 1f1b, p = 2, three micro-batches: stage 0 F0 F1 B0 F2 B1 B2, stage 1 F0 B0 F1 B1 F2 B2.
/// zero_bubble takes the weight gradient of micro-batch n - stage right behind the input gradient of n.
/// When p does not divide the micro-batches, the last group is filled with absent ones whose steps are left out: what
/// remains of an order without a cycle has none.
///
/// Throws InputError when a schedule of one chunk is asked for several.
std::vector<ScheduleStep> make_schedule(ScheduleKind kind, int stages, int stage, int chunks,
                                        std::int64_t micro_batches);
/// The schedules of all stages.
std::vector<std::vector<ScheduleStep>> make_schedules(ScheduleKind kind, int stages, int chunks,
                                                      std::int64_t micro_batches);

/// A chunk of a stage: one end of a transfer.
struct StageChunk {
  int stage = 0;
  int chunk = 0;

  friend bool operator==(const StageChunk&, const StageChunk&) = default;
};

/// Who makes what the step reads: the activation of a forward, the output's gradient of a backward. Nobody for the
/// first forward (tokens), the last backward (the loss) and weight gradients. It may be the stage itself (p = 1).
std::optional<StageChunk> source_of(const ScheduleStep& step, int stages, int stage, int chunks);
/// Who reads what the step makes; nobody for the last forward, the first backward and weight gradients.
std::optional<StageChunk> destination_of(const ScheduleStep& step, int stages, int stage, int chunks);

/// Time of each step of one chunk, in any unit; `backward` takes both halves. `latency` is that of a transfer between
/// two stages.
struct PipelineCosts {
  double forward = 1;
  double backward_input = 1;
  double backward_weight = 1;
  double latency = 0;
};

/// Idle time of a stage within the makespan, the same for all stages, without latency. With the costs f, b, w of a
/// step (of a chunk, so 1/v of a stage's), T = f + b + w and m > 0 micro-batches:
///     1f1b:        (p - 1) T
///     interleaved: (p - 1) T when p divides m (and when v = 1); else at most (p - 1) T + a (v - 1) T, where a micro-
///                  batches are absent from the last group
///     zero_bubble: (p - 1) (f + b) - (min(m, p) - 1) w where w <= f and w <= b; for m >= p the paper's
///                  (p - 1) (f + b - w)
double bubble_of(ScheduleKind kind, int stages, int chunks, std::int64_t micro_batches, const PipelineCosts& costs);

/// The most activations (of one micro-batch and one chunk) that `stage` holds at once, from their forward to their
/// weight gradient. With m micro-batches and w as in make_schedule:
///     1f1b:        min(m, p - stage)
///     interleaved: min(m v, w + 1) when p divides m; else those among the first w + 1 forwards that are not absent
///     zero_bubble: min(m, p) on every stage: the largest of 1f1b's
std::int64_t peak_activations_of(ScheduleKind kind, int stages, int stage, int chunks, std::int64_t micro_batches);

/// A step and when it ran.
struct BusyInterval {
  ScheduleStep step;
  double begin = 0;
  double end = 0;
};

/// What came of a simulation.
struct PipelineTimeline {
  double makespan = 0;
  std::vector<std::vector<BusyInterval>> stages;  ///< in order; up to where it stood still after a deadlock
  std::vector<std::int64_t> peak_activations;     ///< of each stage
  bool deadlock = false;                          ///< some step waits for one that never runs
};

/// Runs the schedules of all stages: a step starts when the one before it has ended and its input is there. Sends cost
/// the sender nothing, receives block.
PipelineTimeline simulate_pipeline(const std::vector<std::vector<ScheduleStep>>& schedules, const PipelineCosts& costs);

/// The timeline in ASCII, one line a stage, one cell for every `unit` of time; lines longer than `columns` are cut.
/// F forward, B backward (its input half in zero_bubble), W weight gradient, each with its micro-batch and, when there
/// are several, behind a dot its chunk; a dash for each further column of a step, a point for each idle cell:
///     stage 0 | F0 F1 .  .  B0--- .  B1---
///     stage 1 | .  F0 B0--- F1 B1--- .  .
std::string draw_pipeline(const PipelineTimeline& timeline, double unit, int columns = 120);

}  // namespace moesaic
