#include "moesaic/train/training_run.hpp"

#include <mpi.h>
#include <sys/resource.h>

#include <algorithm>

#include "moesaic/base/log.hpp"
#include "moesaic/base/text.hpp"
#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/comm/agreement.hpp"
#include "moesaic/models/cost.hpp"
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
          .bias_rate = settings.bias_rate};
}

/// Largest resident memory of this process so far, in bytes.
std::int64_t peak_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

std::int64_t largest(Communicator& ranks, std::int64_t mine) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(ranks.size()));
  ranks.all_gather(host_view(&mine, {1}), host_view(all.data(), {ranks.size()}));
  return *std::max_element(all.begin(), all.end());
}

double seconds_since(std::chrono::steady_clock::time_point began) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

}  // namespace

TrainingRun::Desk::Desk(const RunSettings& settings, const ReportFrame& frame)
    : record(settings.directory), metrics(fs::path(settings.directory) / "metrics.jsonl", frame.first_step),
      report(frame) {}

TrainingRun::TrainingRun(const RunSettings& settings, const Inputs& inputs, const MpiSession& session,
                         Watchdog& watchdog)
    : settings_(settings), inputs_(inputs), watchdog_(watchdog),
      phases_([&watchdog](Phase phase) { watchdog.progress(phase); }), assembly_(settings, inputs, session),
      world_(*assembly_.communicators.world),
      optimizer_(settings.optimizer, *assembly_.context.ops, assembly_.context.on, assembly_.sharding.units(),
                 assembly_.parameter_names(), world_),
      step_(plan_of(settings, inputs), assembly_.runner, assembly_.model, assembly_.sharding, optimizer_,
            assembly_.communicators, phases_),
      sampler_(inputs.data.training->rows(), settings.data.shuffle, settings.seed),
      store_(settings.directory, settings.keep) {}

Status TrainingRun::run() {
  start();
  if (finished_ >= settings_.steps) return complete_already();
  open_desk();
  try {
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
  desk_->record.event("failed", finished_, {{"why", why}});
  desk_->record.status("failed", finished_);
}

/// From the newest checkpoint of the run directory, else as model.init says.
void TrainingRun::start() {
  const std::string from = broadcast_text(world_, starting_checkpoint(settings_), 0);
  if (from.empty()) {
    assembly_.initialise(settings_, inputs_);
    return;
  }
  const CheckpointInfo info = read_checkpoint_info(from, MPI_COMM_WORLD);
  load_checkpoint(from, MPI_COMM_WORLD, state());
  finished_ = info.step;
  tokens_ = info.tokens;
  samples_ = info.samples;
  log_line("continuing from {} (step {})", from, finished_);
}

Status TrainingRun::complete_already() const {
  log_line("{} is complete at step {}; raise train.steps to go on, or name another run.directory", settings_.directory,
           finished_);
  world_.barrier();
  return done;
}

void TrainingRun::open_desk() {
  together(world_, [&] {
    if (world_.rank() != 0) return;
    desk_.emplace(settings_, ReportFrame{finished_, settings_.steps, settings_.log_every, world_.size()});
    desk_->record.event("start", finished_, {{"grid", inputs_.grid.describe()}});
    desk_->record.status("running", finished_);
    greet();
  });
}

void TrainingRun::greet() const {
  const auto figure = [](std::int64_t count) { return format_count(static_cast<double>(count)); };
  log_line("{}", inputs_.grid.describe());
  log_line("{} parameters, {} of them active; {} tokens a step, {} steps", figure(inputs_.spec.total_parameters()),
           figure(inputs_.spec.active_parameters()), figure(settings_.global_batch * settings_.data.sequence),
           settings_.steps);
}

void TrainingRun::take_step() {
  const auto began = std::chrono::steady_clock::now();
  watchdog_.progress(finished_ + 1, Phase::data);
  phases_.enter(Phase::data);
  const std::vector<HostBatch> batches = read_batches();
  const StepResult result = step_.run(finished_ + 1, batches, wants_to_stop());
  phases_.enter(Phase::other);
  ++finished_;
  samples_ += settings_.global_batch;
  tokens_ += settings_.global_batch * settings_.data.sequence;
  stop_ = result.stop;

  last_ = metrics_of(result, seconds_since(began));
  watchdog_.step_finished(last_.seconds);
  if (validation_due()) validate();
  if (desk_) desk_->metrics.write(last_);
  if (desk_) desk_->report.step(last_);
  if (desk_ && last_.validation_loss) desk_->report.validation(finished_, *last_.validation_loss);
  if (checkpoint_due()) save();
}

std::vector<HostBatch> TrainingRun::read_batches() const {
  const BatchCut cut = plan_of(settings_, inputs_).cut;
  const ProcessGrid& grid = inputs_.grid;
  const int data_rank = grid.data_rank(world_.rank()), part = grid.coordinate(world_.rank(), Axis::context);
  std::vector<HostBatch> batches;
  for (std::int64_t m = 0; m < cut.micro_batches(); ++m)
    batches.push_back(part_of(
        read_batch(*inputs_.data.training, sampler_, samples_, cut.sequences(data_rank, m), settings_.data.sequence),
        grid.extent(Axis::context), part));
  return batches;
}

StepMetrics TrainingRun::metrics_of(const StepResult& result, double seconds) {
  const double rate = static_cast<double>(settings_.global_batch * settings_.data.sequence) / seconds / world_.size();
  return {.step = finished_,
          .loss = result.loss,
          .auxiliary_loss = result.auxiliary_loss,
          .validation_loss = std::nullopt,
          .grad_norm = result.gradient_norm,
          .lr = result.lr,
          .tokens = tokens_,
          .seconds = seconds,
          .tokens_per_second_per_rank = rate,
          .tflops_per_rank = rate * flops_per_token(inputs_.spec, settings_.data.sequence) * 1e-12,
          .expert_load = result.expert_load,
          .memory_peak_bytes = largest(world_, peak_memory())};
}

/// A signal, or the wall limit.
bool TrainingRun::wants_to_stop() const { return stop_request_.signal() != 0 || out_of_time(); }

bool TrainingRun::out_of_time() const {
  return settings_.wall_limit > 0 && seconds_since(began_) >= settings_.wall_limit;
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
  const auto began = std::chrono::steady_clock::now();
  const fs::path path = store_.path_of(finished_);
  save_checkpoint(path, MPI_COMM_WORLD,
                  {.step = finished_,
                   .tokens = tokens_,
                   .samples = samples_,
                   .seed = settings_.seed,
                   .grid = inputs_.grid.describe(),
                   .deck = settings_.deck,
                   .config = inputs_.config.source()},
                  state());
  if (desk_) {
    store_.commit(finished_);
    desk_->report.checkpoint(finished_, path, seconds_since(began));
    desk_->record.event("checkpoint", finished_, {{"path", path.string()}});
  }
  phases_.enter(Phase::other);
}

Status TrainingRun::finish() {
  const Status status = last_step() ? done : stopped;
  if (desk_) {
    const fs::path directory = settings_.directory;
    desk_->record.event(status == done ? "end" : out_of_time() ? "wall_limit" : "signal", finished_);
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
  return training_state(assembly_.sharding.units(), optimizer_, assembly_.model, assembly_.owns_biases());
}

}  // namespace moesaic
