#include "moesaic/train/run.hpp"

#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>

#include "moesaic/base/log.hpp"
#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/checkpoint/integrity.hpp"
#include "moesaic/checkpoint/run_lock.hpp"
#include "moesaic/checkpoint/store.hpp"
#include "moesaic/comm/agreement.hpp"
#include "moesaic/train/compute.hpp"
#include "moesaic/train/deck_changes.hpp"
#include "moesaic/train/evaluation.hpp"
#include "moesaic/train/training_run.hpp"

namespace moesaic {
namespace fs = std::filesystem;
namespace {

/// The run directory does not hold what must not be overwritten.
void check_nothing_is_lost(const RunSettings& settings) {
  MOESAIC_VALIDATE(settings.resume != Resume::never || !CheckpointStore(settings.directory, settings.keep).has_any(),
                   "{} holds checkpoints and checkpoint.resume is never (nothing may be overwritten); "
                   "name another run.directory, or leave checkpoint.resume at auto",
                   settings.directory);
}

/// A restart goes on with the run that was begun. The model's config may have moved, or be named from another folder.
void check_same_run(const RunSettings& settings, const StartingPoint& start, const std::string& config) {
  if (!start.own) return;
  auto changes = deck_changes(start.info.deck, settings.deck, settings.default_deck);
  for (DeckChange& change : changes)
    if (change.key == "model.config") change.allowed = start.info.config == config;
  refuse_changes(changes, settings.directory);
  if (start.info.config != config)
    log_warn("the model's config.json is another one than when {} was written", start.path);
  for (const DeckChange& change : changes)
    log_line("changed since {}: {} = {} (was {})", fs::path(start.path).filename().string(), change.key, change.now,
             change.before);
}

/// The run directory is there, can be written, and holds nothing that a crash left half written.
void prepare_directory(const RunSettings& settings) {
  const CheckpointStore store(settings.directory, settings.keep);
  store.prepare();
  for (const std::string& name : store.sweep()) log_line("removed {}, which a crash left half written", name);
  const fs::path probe = fs::path(settings.directory) / ".writable";
  const bool writable = static_cast<bool>(std::ofstream(probe));
  std::error_code ignored;
  fs::remove(probe, ignored);
  MOESAIC_VALIDATE(writable, "run.directory = {} cannot be written; name another folder", settings.directory);
}

/// Makes the run directory this job's. Locked before anything is swept: another job may have begun here meanwhile.
void take_directory(const RunSettings& settings, const StartingPoint& start, std::optional<RunLock>& lock) {
  const CheckpointStore store(settings.directory, settings.keep);
  if (!lock) {
    store.prepare();
    lock.emplace(settings.directory);
    MOESAIC_VALIDATE(
        !start.path.empty() || !store.has_any(),
        "another job has saved checkpoints in {} since this one looked (it would begin from step 0); run the "
        "same command again",
        settings.directory);
  }
  prepare_directory(settings);
}

/// Without data.validation evaluation reads data.path, and there is none.
void check_evaluation_data(const RunSettings& settings) {
  MOESAIC_VALIDATE(settings.data.format != DataFormat::synthetic || !settings.data.validation.empty(),
                   "evaluate reads all of its data and data.format = synthetic never ends; set data.validation = 1 "
                   "(256 rows of random tokens)");
}

enum class Purpose : std::uint8_t { training, evaluation };

/// What a deck can have wrong is found before any communicator of the run is made, and said once. Rank 0 alone looks at
/// the checkpoints.
std::unique_ptr<Inputs> checked_inputs(const RunSettings& settings, const MpiSession& session, Communicator& world,
                                       Purpose purpose, const DamagedCheckpoints& damaged) {
  std::unique_ptr<Inputs> inputs;
  const bool training = purpose == Purpose::training;
  together(world, [&] {
    check_device(settings);
    if (!training) check_evaluation_data(settings);
    inputs = std::make_unique<Inputs>(settings, session.size());
    if (training && world.rank() == 0) check_nothing_is_lost(settings);
  });
  inputs->start = find_starting_point(settings, world, damaged);
  together(world, [&] {
    if (world.rank() != 0) return;
    check_starting_weights(settings, *inputs, training);
    if (training) check_same_run(settings, inputs->start, inputs->config.source());
  });
  return inputs;
}

/// Calls `run` with the newest checkpoint, and again with the one before when `run` finds that damaged while it loads.
Status with_good_start(const RunSettings& settings, const MpiSession& session, Communicator& world, Purpose purpose,
                       const std::function<Status(const Inputs&)>& run) {
  DamagedCheckpoints damaged;
  while (true) {
    const auto inputs = checked_inputs(settings, session, world, purpose, damaged);
    damaged = inputs->start.damaged;
    try {
      return run(*inputs);
    } catch (const DamagedCheckpointError& error) {
      if (error.path != inputs->start.path) throw;
      damaged[inputs->start.path] = error.damage;
    }
    if (world.rank() == 0 && inputs->start.own)
      log_warn("{} is damaged and passed over: {}", inputs->start.path, damaged[inputs->start.path]);
  }
}

/// An error that only this rank has met is told to the others, who would wait for it.
Status watched(Watchdog& watchdog, const std::function<Status()>& run) {
  try {
    return run();
  } catch (const AgreedInputError&) {
    throw;
  } catch (const AgreedRunError&) {
    throw;
  } catch (...) {
    watchdog.failed();
    throw;
  }
}

/// Made first: from here on no rank is waited for without end.
Watchdog make_watchdog(const RunSettings& settings, const MpiSession& session, Communicator& world) {
  std::optional<Seconds> limit;
  if (settings.watchdog) limit = Seconds(*settings.watchdog);
  return Watchdog(world, session.host(), limit);
}

}  // namespace

Status run_training(const RunSettings& settings, const MpiSession& session, Communicator& world) {
  Watchdog watchdog = make_watchdog(settings, session, world);
  return watched(watchdog, [&] {
    // Where there is no run directory yet, a deck with a mistake makes none.
    std::optional<RunLock> lock;
    together(world, [&] {
      if (world.rank() == 0 && fs::is_directory(settings.directory)) lock.emplace(settings.directory);
    });
    return with_good_start(settings, session, world, Purpose::training, [&](const Inputs& inputs) {
      together(world, [&] {
        if (world.rank() == 0) take_directory(settings, inputs.start, lock);
      });
      return TrainingRun(settings, inputs, session, watchdog).run();
    });
  });
}

Status run_evaluation(const RunSettings& settings, const MpiSession& session, Communicator& world) {
  Watchdog watchdog = make_watchdog(settings, session, world);
  return watched(watchdog, [&] {
    return with_good_start(settings, session, world, Purpose::evaluation, [&](const Inputs& inputs) {
      return evaluate(settings, inputs, session, [&watchdog] { watchdog.progress(Phase::validation); });
    });
  });
}

void check_run(const RunSettings& settings, const MpiSession& session, Communicator& world) {
  with_good_start(settings, session, world, Purpose::training, [&](const Inputs& inputs) {
    if (!inputs.start.path.empty())
      refuse_damages(inputs.start.path, verify_checkpoint(inputs.start.path, world).damages);
    say_what_is_left_out(inputs.spec);
    return done;
  });
}

}  // namespace moesaic
