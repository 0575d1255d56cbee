#include "moesaic/parallel/pipeline_schedule.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

using Schedules = std::vector<std::vector<ScheduleStep>>;

/// A pipeline's extents and the orders that follow from them.
struct Pipeline {
  std::int64_t stages;
  std::int64_t chunks;
  std::int64_t micro_batches;

  std::int64_t groups() const { return (micro_batches + stages - 1) / stages; }
  /// Micro-batches missing from the last group.
  std::int64_t absent() const { return groups() * stages - micro_batches; }
  /// Forwards of one stage, absent ones counted.
  std::int64_t passes() const { return groups() * stages * chunks; }
  /// Forwards before the first backward.
  std::int64_t warmup(int stage) const {
    const std::int64_t after = stages - 1 - stage;
    return chunks == 1 ? after : 2 * after + (chunks - 1) * stages;
  }
  ScheduleStep step(Work work, std::int64_t pass) const;
  std::int64_t present_among(std::int64_t passes) const;
};

ScheduleStep Pipeline::step(Work work, std::int64_t pass) const {
  const std::int64_t group = pass / (stages * chunks), within = pass % (stages * chunks);
  const std::int64_t chunk = within / stages;
  return {work, group * stages + within % stages, static_cast<int>(work == Work::forward ? chunk : chunks - 1 - chunk)};
}

/// How many of the first passes are of micro-batches that exist.
std::int64_t Pipeline::present_among(std::int64_t first) const {
  const std::int64_t left_over = micro_batches % stages, full = (micro_batches - left_over) * chunks;
  if (first <= full) return first;
  const std::int64_t rest = std::min(first, passes()) - full;
  return full + rest / stages * left_over + std::min(rest % stages, left_over);
}

/// Appends the steps of passes, and leaves out those that do not exist.
class ScheduleWriter {
 public:
  explicit ScheduleWriter(const Pipeline& pipeline) : pipeline_(pipeline) {}

  void add(Work work, std::int64_t pass) {
    if (pass < 0 || pass >= pipeline_.passes()) return;
    const ScheduleStep step = pipeline_.step(work, pass);
    if (step.micro_batch < pipeline_.micro_batches) steps_.push_back(step);
  }
  std::vector<ScheduleStep> take() && { return std::move(steps_); }

 private:
  Pipeline pipeline_;
  std::vector<ScheduleStep> steps_;
};

void validate_chunks(ScheduleKind kind, int chunks) {
  MOESAIC_VALIDATE(chunks == 1 || kind == ScheduleKind::interleaved,
                   "grid.chunks = {} with grid.schedule = {} (this schedule has one chunk of blocks a rank); set "
                   "grid.chunks = 1 or grid.schedule = interleaved",
                   chunks, name_of(kind));
}

std::optional<StageChunk> at_virtual_stage(int index, int stages, int chunks) {
  if (index < 0 || index >= stages * chunks) return std::nullopt;
  return StageChunk{index % stages, index / stages};
}

/// The virtual stage `distance` further on in the direction that the step's data flow.
std::optional<StageChunk> along_flow(const ScheduleStep& step, const StageChunk& at, int distance, int stages,
                                     int chunks) {
  if (step.work == Work::backward_weight) return std::nullopt;
  const int forward = step.work == Work::forward ? distance : -distance;
  return at_virtual_stage(at.chunk * stages + at.stage + forward, stages, chunks);
}

}  // namespace

const char* name_of(ScheduleKind kind) {
  switch (kind) {
    case ScheduleKind::one_f_one_b: return "1f1b";
    case ScheduleKind::interleaved: return "interleaved";
    case ScheduleKind::zero_bubble: return "zero_bubble";
  }
  return "";
}

std::vector<ScheduleStep> make_schedule(ScheduleKind kind, int stages, int stage, int chunks,
                                        std::int64_t micro_batches) {
  MOESAIC_EXPECT(0 <= stage && stage < stages && chunks > 0 && micro_batches >= 0);
  validate_chunks(kind, chunks);
  const Pipeline pipeline{stages, chunks, micro_batches};
  const bool split = kind == ScheduleKind::zero_bubble;
  const std::int64_t warmup = pipeline.warmup(stage), delay = split ? stage : 0;
  ScheduleWriter schedule(pipeline);
  for (std::int64_t n = 0; n < pipeline.passes() + warmup + delay; ++n) {
    schedule.add(Work::forward, n);
    schedule.add(split ? Work::backward_input : Work::backward, n - warmup);
    if (split) schedule.add(Work::backward_weight, n - warmup - delay);
  }
  return std::move(schedule).take();
}

Schedules make_schedules(ScheduleKind kind, int stages, int chunks, std::int64_t micro_batches) {
  Schedules schedules;
  for (int stage = 0; stage < stages; ++stage)
    schedules.push_back(make_schedule(kind, stages, stage, chunks, micro_batches));
  return schedules;
}

std::optional<StageChunk> source_of(const ScheduleStep& step, int stages, int stage, int chunks) {
  return along_flow(step, {stage, step.chunk}, -1, stages, chunks);
}

std::optional<StageChunk> destination_of(const ScheduleStep& step, int stages, int stage, int chunks) {
  return along_flow(step, {stage, step.chunk}, 1, stages, chunks);
}

double bubble_of(ScheduleKind kind, int stages, int chunks, std::int64_t micro_batches, const PipelineCosts& costs) {
  MOESAIC_EXPECT(stages > 0 && chunks > 0 && micro_batches > 0);
  const double others = stages - 1, without_weights = costs.forward + costs.backward_input;
  if (kind == ScheduleKind::zero_bubble) {
    const auto filled = static_cast<double>(std::min<std::int64_t>(micro_batches, stages) - 1);
    return others * without_weights - filled * costs.backward_weight;
  }
  const std::int64_t holes = Pipeline{stages, chunks, micro_batches}.absent() * (chunks - 1);
  return (others + static_cast<double>(holes)) * (without_weights + costs.backward_weight);
}

std::int64_t peak_activations_of(ScheduleKind kind, int stages, int stage, int chunks, std::int64_t micro_batches) {
  MOESAIC_EXPECT(0 <= stage && stage < stages && chunks > 0 && micro_batches >= 0);
  if (kind == ScheduleKind::zero_bubble) return std::min<std::int64_t>(micro_batches, stages);
  const Pipeline pipeline{stages, chunks, micro_batches};
  return pipeline.present_among(pipeline.warmup(stage) + 1);
}

namespace {

/// Steps the stages round-robin until none can go on.
class Simulator {
 public:
  Simulator(const Schedules& schedules, const PipelineCosts& costs) : schedules_(schedules), costs_(costs) {
    for (const auto& schedule : schedules) {
      for (const ScheduleStep& step : schedule) {
        chunks_ = std::max(chunks_, step.chunk + 1);
        micro_batches_ = std::max(micro_batches_, step.micro_batch + 1);
      }
    }
    ended_.assign(static_cast<std::size_t>(2 * micro_batches_ * num_stages() * chunks_), not_yet);
    live_.assign(schedules.size(), 0);
    timeline_.stages.resize(schedules.size());
    timeline_.peak_activations.assign(schedules.size(), 0);
  }

  PipelineTimeline run() && {
    for (bool advanced = true; advanced;) {
      advanced = false;
      for (int stage = 0; stage < num_stages(); ++stage)
        while (advance(stage)) advanced = true;
    }
    for (int stage = 0; stage < num_stages(); ++stage)
      timeline_.deadlock |= timeline_.stages[stage].size() < schedules_[stage].size();
    return std::move(timeline_);
  }

 private:
  static constexpr double not_yet = -1;

  int num_stages() const { return static_cast<int>(schedules_.size()); }

  /// When a forward, or a backward (its input half), ended.
  double& ended(bool forward, std::int64_t micro_batch, const StageChunk& at) {
    const std::int64_t virtual_stage = at.chunk * num_stages() + at.stage;
    return ended_[((virtual_stage * micro_batches_) + micro_batch) * 2 + (forward ? 1 : 0)];
  }

  /// When everything that the step reads is on its stage, or not_yet.
  double ready(const ScheduleStep& step, int stage) {
    const bool forward = step.work == Work::forward;
    double time = 0;
    if (!forward) {
      const bool after_forward = step.work != Work::backward_weight;
      time = ended(after_forward, step.micro_batch, {stage, step.chunk});
      if (time == not_yet) return not_yet;
    }
    const auto source = source_of(step, num_stages(), stage, chunks_);
    if (!source) return time;
    const double sent = ended(forward, step.micro_batch, *source);
    if (sent == not_yet) return not_yet;
    return std::max(time, sent + (source->stage == stage ? 0 : costs_.latency));
  }

  double duration(Work work) const {
    switch (work) {
      case Work::forward: return costs_.forward;
      case Work::backward: return costs_.backward_input + costs_.backward_weight;
      case Work::backward_input: return costs_.backward_input;
      case Work::backward_weight: return costs_.backward_weight;
    }
    return 0;
  }

  void count_activation(const ScheduleStep& step, int stage) {
    if (step.work == Work::forward) ++live_[stage];
    timeline_.peak_activations[stage] = std::max(timeline_.peak_activations[stage], live_[stage]);
    if (step.work == Work::backward || step.work == Work::backward_weight) --live_[stage];
  }

  /// Runs the next step of a stage if its input is on the way.
  bool advance(int stage) {
    auto& busy = timeline_.stages[stage];
    if (busy.size() == schedules_[stage].size()) return false;
    const ScheduleStep& step = schedules_[stage][busy.size()];
    const double arrival = ready(step, stage);
    if (arrival == not_yet) return false;
    const double begin = std::max(arrival, busy.empty() ? 0 : busy.back().end), end = begin + duration(step.work);
    busy.push_back({step, begin, end});
    if (step.work != Work::backward_weight)
      ended(step.work == Work::forward, step.micro_batch, {stage, step.chunk}) = end;
    count_activation(step, stage);
    timeline_.makespan = std::max(timeline_.makespan, end);
    return true;
  }

  const Schedules& schedules_;
  PipelineCosts costs_;
  int chunks_ = 1;
  std::int64_t micro_batches_ = 0;
  std::vector<double> ended_;
  std::vector<std::int64_t> live_;
  PipelineTimeline timeline_;
};

bool has_chunks(const PipelineTimeline& timeline) {
  for (const auto& stage : timeline.stages)
    for (const BusyInterval& interval : stage)
      if (interval.step.chunk > 0) return true;
  return false;
}

std::string label_of(const ScheduleStep& step, bool with_chunk) {
  const char letter = step.work == Work::forward ? 'F' : step.work == Work::backward_weight ? 'W' : 'B';
  return with_chunk ? fmt::format("{}{}.{}", letter, step.micro_batch, step.chunk)
                    : fmt::format("{}{}", letter, step.micro_batch);
}

/// One step over `width` columns, the last of them blank.
std::string drawn_step(std::string label, std::int64_t width) {
  if (width <= 0) return "";
  label.resize(width - 1, '-');
  return label + ' ';
}

/// Columns a cell: the longest label and a blank.
std::int64_t cell_width(const PipelineTimeline& timeline, bool with_chunk) {
  std::size_t longest = 1;
  for (const auto& stage : timeline.stages)
    for (const BusyInterval& interval : stage) longest = std::max(longest, label_of(interval.step, with_chunk).size());
  return static_cast<std::int64_t>(longest) + 1;
}

std::string idle_row(std::int64_t cells, std::int64_t cell) {
  std::string row(cells * cell, ' ');
  for (std::int64_t i = 0; i < cells; ++i) row[i * cell] = '.';
  return row;
}

}  // namespace

PipelineTimeline simulate_pipeline(const Schedules& schedules, const PipelineCosts& costs) {
  return Simulator(schedules, costs).run();
}

std::string draw_pipeline(const PipelineTimeline& timeline, double unit, int columns) {
  MOESAIC_EXPECT(unit > 0 && columns > 0);
  const bool with_chunk = has_chunks(timeline);
  const std::int64_t cell = cell_width(timeline, with_chunk);
  const auto column = [=](double time) { return std::llround(time / unit) * cell; };
  std::string drawing;
  for (std::size_t stage = 0; stage < timeline.stages.size(); ++stage) {
    std::string row = idle_row(column(timeline.makespan) / cell, cell);
    for (const auto& [step, begin, end] : timeline.stages[stage]) {
      const std::int64_t width = column(end) - column(begin);
      row.replace(column(begin), width, drawn_step(label_of(step, with_chunk), width));
    }
    row.erase(row.find_last_not_of(' ') + 1);
    std::string line =
        fmt::format("stage {:<{}} | {}", stage, fmt::formatted_size("{}", timeline.stages.size() - 1), row);
    if (std::ssize(line) > columns) line = line.substr(0, std::max(columns - 3, 0)) + "...";
    drawing += line + '\n';
  }
  return drawing;
}

}  // namespace moesaic
