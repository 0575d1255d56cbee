#include "moesaic/train/training_run.hpp"

#include <mpi.h>

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "moesaic/base/log.hpp"
#include "moesaic/base/text.hpp"
#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/checkpoint/hf_extras.hpp"
#include "moesaic/comm/agreement.hpp"
#include "moesaic/models/cost.hpp"
#include "moesaic/models/family.hpp"
#include "moesaic/train/evaluation.hpp"
#include "moesaic/train/loss_curve.hpp"

namespace moesaic {
namespace fs = std::filesystem;
namespace {

StepPlan plan_of(const RunSettings& settings, const Inputs& inputs) {
  return {.cut = {settings.global_batch, settings.micro_batch, inputs.grid.data_ranks()},
          .length = settings.data.sequence,
          .steps = settings.steps,
          .reduce_every_micro_batch = settings.reduce_every_micro_batch,
          .schedule = settings.schedule,
          .optimizer = settings.optimizer,
          .balance = settings.balanced_router ? Balance::none : settings.balance,
          .scope = settings.auxiliary_scope,
          .auxiliary_coefficient = settings.auxiliary_coefficient.value_or(inputs.spec.auxiliary_coefficient),
          .bias_rate = settings.bias_rate,
          .prediction_weight = settings.prediction_weight};
}

std::int64_t largest(Communicator& ranks, std::int64_t mine) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(ranks.size()));
  ranks.all_gather(host_view(&mine, {1}), host_view(all.data(), {ranks.size()}));
  return *std::max_element(all.begin(), all.end());
}

double seconds_since(std::chrono::steady_clock::time_point began) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

/// The checkpoint that model.init names; empty when it names none.
std::string initial_checkpoint(const RunSettings& settings) {
  return settings.init != "random" && fs::is_regular_file(settings.init) ? settings.init : "";
}

/// What events.jsonl says of a save: the file system's share of the time, and training's.
std::map<std::string, std::string> facts_of(const SaveOutcome& save) {
  if (!save.saved()) return {{"why", save.problem}, {"stall_seconds", fmt::format("{:.6f}", save.stall_seconds)}};
  return {{"path", save.path.string()},
          {"bytes", fmt::format("{}", save.cost.bytes)},
          {"seconds", fmt::format("{:.6f}", save.cost.seconds)},
          {"file_seconds", fmt::format("{:.6f}", save.cost.file_seconds)},
          {"sync_seconds", fmt::format("{:.6f}", save.cost.sync_seconds)},
          {"stall_seconds", fmt::format("{:.6f}", save.stall_seconds)},
          {"bytes_per_second", fmt::format("{:.0f}", static_cast<double>(save.cost.bytes) / save.cost.seconds)}};
}

SaveMetrics figures_of(const SaveOutcome& save) {
  return {.stall_seconds = save.stall_seconds,
          .bytes_per_second = static_cast<double>(save.cost.bytes) / save.cost.seconds,
          .file_system_share = save.cost.file_seconds / save.cost.seconds};
}

}  // namespace

TrainingRun::Desk::Desk(const RunSettings& settings, const ReportFrame& frame)
    : record(settings.directory), metrics(fs::path(settings.directory) / "metrics.jsonl", frame.first_step),
      report(frame) {}

TrainingRun::TrainingRun(const RunSettings& settings, const Inputs& inputs, const MpiSession& session,
                         Watchdog& watchdog)
    : settings_(settings), inputs_(inputs), watchdog_(watchdog),
      stop_conditions_(settings.directory, session.rank() == 0, settings.wall_limit), phases_([this](Phase phase) {
        watchdog_.progress(phase);
        if (profile_) profile_->enter(phase);
      }),
      assembly_(settings, inputs, session), world_(*assembly_.communicators.world),
      optimizer_(settings.optimizer, *assembly_.context.ops, assembly_.context.on, assembly_.sharding.units(),
                 assembly_.parameter_names(), world_),
      plan_(plan_of(settings, inputs)),
      step_(plan_, assembly_.runner, assembly_.model, assembly_.sharding, optimizer_, assembly_.communicators, phases_),
      sampler_(inputs.data.training->rows(), settings.data.shuffle, settings.seed),
      store_(settings.directory, settings.keep, settings.keep_every),
      writer_(store_, MPI_COMM_WORLD, settings.background) {}

Status TrainingRun::run() {
  start();
  if (finished_ >= settings_.steps) return complete_already();
  open_desk();
  prepare_profile();
  try {
    writer_.prepare(state(), assembly_.context.on.stream);
    while (finished_ < settings_.steps && !stop_) take_step();
    return finish();
  } catch (const std::exception& error) {
    record_failure(error.what());
    throw;
  }
}

void TrainingRun::record_failure(const std::string& why) {
  if (!desk_) return;
  desk_->report.pause();
  try {
    desk_->record.event("failed", finished_, {{"why", why}});
    desk_->record.status("failed", finished_);
  } catch (const std::exception& error) {
    log_warn("{}", error.what());  // what went wrong before it matters more
  }
}

/// From the newest checkpoint of the run directory, else as model.init says.
void TrainingRun::start() {
  const auto& [from, own, info, damaged] = inputs_.start;
  const std::string carried = from.empty() ? initial_checkpoint(settings_) : from;
  if (!carried.empty()) extra_ = ExtraArrays::load(carried, MPI_COMM_WORLD);
  if (from.empty()) {
    assembly_.initialise(settings_, inputs_);
    if (is_hf_folder(settings_)) take_extras_of_folder();
    return;
  }
  load_checkpoint(from, MPI_COMM_WORLD, state(), assembly_.context.on.stream,
                  [this] { watchdog_.progress(Phase::start); });
  finished_ = info.step;
  tokens_ = info.tokens;
  samples_ = info.samples;
  log_line("continuing from {} (step {})", from, finished_);
}

/// A slice of the model uses parts of what it does not seem to use: it carries no tensors along.
void TrainingRun::take_extras_of_folder() {
  const ModelOverrides& cut = settings_.overrides;
  const bool whole = cut.layers == 0 && cut.vocabulary == 0 && cut.experts == 0 && cut.dense_layers < 0;
  together(world_, [&] {
    const SafetensorsFolder folder(settings_.init);
    extra_ = hf_extras(folder, hf_pieces(inputs_.spec), whole, world_.rank(), world_.size());
  });
}

/// Writes only what a job that was killed behind its last checkpoint has left undone.
Status TrainingRun::complete_already() const {
  together(world_, [&] {
    if (world_.rank() != 0) return;
    RunRecord record(settings_.directory);
    if (record.status() == fmt::format("complete {}", finished_)) return;
    record.event("end", finished_);
    record.status("complete", finished_);
    draw_loss_curve(fs::path(settings_.directory) / "metrics.jsonl", fs::path(settings_.directory) / "loss.svg");
  });
  log_line("{} is complete at step {}; raise train.steps to go on, or name another run.directory", settings_.directory,
           finished_);
  world_.barrier();
  return done;
}

void TrainingRun::open_desk() {
  together(world_, [&] {
    if (world_.rank() != 0) return;
    desk_.emplace(settings_, ReportFrame{finished_, settings_.steps, settings_.log_every, world_.size()});
    for (const auto& [path, why] : inputs_.start.damaged)
      desk_->record.event("damaged checkpoint", finished_, {{"path", path}, {"why", why}});
    desk_->record.event("start", finished_, {{"grid", inputs_.grid.describe()}});
    desk_->record.status("running", finished_);
    greet();
  });
}

void TrainingRun::prepare_profile() {
  if (settings_.profile_steps.count == 0) return;
  const Stream stream = assembly_.context.on.stream;
  const auto measure = [this, stream] {
    if (desk_) desk_->report.pause();
    return measure_device_rates(stream, assembly_.compute.memory(), assembly_.context.type);
  };
  profile_.emplace(settings_.profile_steps, finished_ + 1, stream, fs::path(settings_.directory) / "profile", world_,
                   measure);
}

void TrainingRun::greet() const {
  const auto figure = [](std::int64_t count) { return format_count(static_cast<double>(count)); };
  log_line("{}", inputs_.grid.describe());
  const bool with_embedding = inputs_.spec.counts_embedding || inputs_.spec.tied_head;
  log_line("{} parameters, {} of them active {} the input embedding; {} tokens a step, {} steps",
           figure(inputs_.spec.total_parameters()), figure(inputs_.spec.active_parameters()),
           with_embedding ? "with" : "without", figure(settings_.global_batch * settings_.data.sequence),
           settings_.steps);
  say_what_is_left_out(inputs_.spec);
}

void TrainingRun::take_step() {
  const auto began = std::chrono::steady_clock::now();
  watchdog_.progress(finished_ + 1, Phase::data);
  phases_.enter(Phase::data);
  if (profile_) profile_->begin_step(finished_ + 1, Phase::data);
  std::vector<HostBatch> batches = read_batches(plan_.cut);
  const StepResult result = step_within_bound(batches);
  if (profile_) profile_->end_step();
  phases_.enter(Phase::other);
  ++finished_;
  samples_ += settings_.global_batch;
  tokens_ += settings_.global_batch * settings_.data.sequence;
  stop_ = result.stop;

  last_ = metrics_of(result, seconds_since(began));
  slowest_step_ = std::max(slowest_step_, last_.seconds);
  watchdog_.step_finished(last_.seconds);
  if (validation_due()) validate();
  if (desk_) desk_->metrics.write(last_);
  if (desk_) desk_->report.step(last_);
  count_skipped(result, batches);
  if (desk_ && last_.validation_loss) desk_->report.validation(finished_, *last_.validation_loss);
  if (checkpoint_due()) save();
  report_saves();
}

/// A step that overflows the receive buffers of experts is taken again with smaller micro-batches, then left in `batches`:
/// half as many sequences, until it does not. The next step begins with full ones.
StepResult TrainingRun::step_within_bound(std::vector<HostBatch>& batches) {
  const bool stop = wants_to_stop();
  BatchCut cut = plan_.cut;
  StepResult result = step_.run(finished_ + 1, batches, stop);
  const std::optional<StepOverflow> first = result.overflow;
  while (result.overflow && result.overflow->discarded()) {
    cut.micro_batch = (cut.largest_micro_batch() + 1) / 2;
    phases_.enter(Phase::data);
    batches = read_batches(cut);
    result = step_.run(finished_ + 1, batches, stop);
  }
  if (first) report_overflow(*first, cut);
  return result;
}

void TrainingRun::report_overflow(const StepOverflow& overflow, const BatchCut& cut) {
  if (!desk_) return;
  const auto figure = [](std::int64_t count) { return fmt::format("{}", count); };
  desk_->record.event("overflow", finished_ + 1,
                      {{"layer", figure(overflow.layer)},
                       {"rank", figure(overflow.rank)},
                       {"rows", figure(overflow.rows)},
                       {"most_rows", figure(overflow.most_rows)},
                       {"slots", figure(overflow.slots)},
                       {"most_slots", figure(overflow.most_slots)},
                       {"micro_batch", figure(cut.micro_batch)}});
  desk_->report.pause();
  log_line(
      "step {}: {} rows for {} expert slots would have arrived at rank {} in MoE layer {}, and its receive buffers "
      "hold {} and {}; {} (raise moe.receive_bound or lower train.micro_batch where this is frequent)",
      finished_ + 1, overflow.rows, overflow.slots, overflow.rank, overflow.layer, overflow.most_rows,
      overflow.most_slots,
      overflow.discarded() ? fmt::format("the step is taken with micro-batches of {}", cut.micro_batch)
                           : fmt::format("they went in {} rounds", overflow.rounds));
}

/// A step that is not finite is skipped; a run of them ends the job, with what a second look at the last one says.
void TrainingRun::count_skipped(const StepResult& result, const std::vector<HostBatch>& batches) {
  skipped_ = result.skipped ? skipped_ + 1 : 0;
  if (!result.skipped) return;
  if (desk_) {
    desk_->record.event(
        "skipped step", finished_,
        {{"loss", fmt::format("{}", result.loss)}, {"grad_norm", fmt::format("{}", result.gradient_norm)}});
    desk_->report.pause();
    log_line("step {} is skipped: loss {}, gradient norm {}", finished_, result.loss, result.gradient_norm);
  }
  if (skipped_ < settings_.max_skipped) return;
  throw AgreedRunError(fmt::format(
      "{} steps in a row were not finite, the last is {} (train.max_skipped; the newest checkpoint is sound): {}",
      skipped_, finished_, step_.diagnose(batches)));
}

std::vector<HostBatch> TrainingRun::read_batches(const BatchCut& cut) const {
  const ProcessGrid& grid = inputs_.grid;
  const int data_rank = grid.data_rank(world_.rank()), part = grid.coordinate(world_.rank(), Axis::context);
  std::vector<HostBatch> batches;
  for (std::int64_t m = 0; m < cut.micro_batches(); ++m)
    batches.push_back(part_of(
        read_batch(*inputs_.data.training, sampler_, samples_, cut.sequences(data_rank, m), settings_.data.sequence,
                   inputs_.spec.predicts ? Lookahead::two_tokens : Lookahead::one_token),
        grid.extent(Axis::context), part));
  for (HostBatch& batch : batches) batch.divisible = cut.largest_micro_batch() > 1;
  return batches;
}

StepMetrics TrainingRun::metrics_of(const StepResult& result, double seconds) {
  const double rate = static_cast<double>(settings_.global_batch * settings_.data.sequence) / seconds / world_.size();
  return {.step = finished_,
          .loss = result.loss,
          .auxiliary_loss = result.auxiliary_loss,
          .prediction_loss = result.prediction_loss,
          .validation_loss = std::nullopt,
          .grad_norm = result.gradient_norm,
          .lr = result.lr,
          .tokens = tokens_,
          .seconds = seconds,
          .tokens_per_second_per_rank = rate,
          .tflops_per_rank = rate * flops_per_token(inputs_.spec, settings_.data.sequence) * 1e-12,
          .expert_load = result.expert_load,
          .memory_peak_bytes = largest(world_, assembly_.compute.peak_bytes()),
          .checkpoint = std::exchange(completed_save_, std::nullopt)};
}

/// Before the last moment: a step, the checkpoint and leaving take time too.
bool TrainingRun::wants_to_stop() {
  constexpr double leaving = 30;
  const StopReason reason = stop_conditions_.reason(leaving + 2 * (slowest_step_ + slowest_save_));
  if (stop_reason_ == StopReason::none) stop_reason_ = reason;
  return reason != StopReason::none || writer_.failed();
}

bool TrainingRun::validation_due() const {
  if (!inputs_.data.validation) return false;
  return last_step() || (settings_.validate_every > 0 && finished_ % settings_.validate_every == 0);
}

bool TrainingRun::checkpoint_due() const {
  return last_step() || stop_ || (settings_.checkpoint_every > 0 && finished_ % settings_.checkpoint_every == 0);
}

void TrainingRun::validate() {
  phases_.enter(Phase::validation);
  last_.validation_loss = mean_loss(assembly_, *inputs_.data.validation, inputs_.grid, world_.rank(), settings_,
                                    [this] { watchdog_.progress(Phase::validation); });
  phases_.enter(Phase::other);
}

void TrainingRun::save() {
  phases_.enter(Phase::checkpoint);
  const auto alive = [this] { watchdog_.progress(Phase::checkpoint); };
  writer_.save(checkpoint_info(), state(), assembly_.context.on.stream, alive);
  if (last_step() || stop_) {
    writer_.wait(alive);
    report_saves();
    if (!unsaved_.empty()) throw AgreedRunError(unsaved_ + ", then run the same command again");
  }
  phases_.enter(Phase::other);
}

CheckpointInfo TrainingRun::checkpoint_info() const {
  return {.step = finished_,
          .tokens = tokens_,
          .samples = samples_,
          .seed = settings_.seed,
          .grid = inputs_.grid.describe(),
          .version = settings_.version,
          .deck = settings_.deck,
          .config = inputs_.config.source()};
}

/// Says which checkpoints are on disk since it last looked, and which could not be written.
void TrainingRun::report_saves() {
  for (const SaveOutcome& save : writer_.take_outcomes()) {
    unsaved_ = save.problem;
    slowest_save_ = std::max(slowest_save_, save.cost.seconds);
    if (save.saved()) completed_save_ = figures_of(save);
    if (!desk_) continue;
    if (save.saved()) desk_->report.checkpoint(save.step, save.path, save.cost.seconds);
    if (!save.saved()) desk_->report.pause();
    if (!save.saved()) log_warn("no checkpoint of step {}: {}", save.step, save.problem);
    desk_->record.event(save.saved() ? "checkpoint" : "checkpoint failed", save.step, facts_of(save));
  }
}

Status TrainingRun::finish() {
  const Status status = last_step() ? done : stopped;
  if (profile_) profile_->finish();
  if (stop_reason_ == StopReason::none) stop_reason_ = StopReason::signal;  // noted on another rank
  stop_conditions_.obeyed();
  if (desk_) {
    const fs::path directory = settings_.directory;
    desk_->record.event(status == done ? "end" : name_of(stop_reason_), finished_);
    desk_->record.status(status == done ? "complete" : "stopped", finished_);
    draw_loss_curve(directory / "metrics.jsonl", directory / "loss.svg");
    desk_->report.closing(phases_, last_);
    if (status == stopped)
      log_line("stopped behind {}; run the same command again to go on", store_.path_of(finished_).string());
  }
  world_.barrier();
  return status;
}

std::vector<StateArray> TrainingRun::state() {
  auto arrays = training_state(assembly_.sharding.units(), optimizer_, assembly_.model, assembly_.owns_biases());
  arrays.insert(arrays.end(), extra_.arrays().begin(), extra_.arrays().end());
  return arrays;
}

}  // namespace moesaic
