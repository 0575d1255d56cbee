#include "moesaic/train/run.hpp"

#include <filesystem>
#include <fstream>

#include "moesaic/checkpoint/store.hpp"
#include "moesaic/comm/agreement.hpp"
#include "moesaic/train/evaluation.hpp"
#include "moesaic/train/training_run.hpp"

namespace moesaic {
namespace fs = std::filesystem;
namespace {

void check_device(const RunSettings& settings) {
  MOESAIC_VALIDATE(settings.device != DeviceChoice::cuda,
                   "run.device = cuda cannot train yet (without a CUDA version: {}); set run.device = cpu",
                   missing_operators(DeviceKind::cuda));
  MOESAIC_VALIDATE(settings.precision != Precision::bf16,
                   "train.precision = bf16 needs a GPU (the CPU computes in fp32); set train.precision = fp32 or auto");
}

/// The run directory can be written and does not hold what must not be overwritten.
void check_directory(const RunSettings& settings, int rank) {
  const CheckpointStore store(settings.directory, settings.keep);
  MOESAIC_VALIDATE(settings.resume != Resume::never || !store.has_any(),
                   "{} holds checkpoints and checkpoint.resume is never (nothing may be overwritten); "
                   "name another run.directory, or leave checkpoint.resume at auto",
                   settings.directory);
  if (rank != 0) return;
  store.prepare();
  const fs::path probe = fs::path(settings.directory) / ".writable";
  const bool writable = static_cast<bool>(std::ofstream(probe));
  std::error_code ignored;
  fs::remove(probe, ignored);
  MOESAIC_VALIDATE(writable, "run.directory = {} cannot be written; name another folder", settings.directory);
}

/// What a deck can have wrong is found before any communicator of the run is made, and said once.
std::unique_ptr<Inputs> checked_inputs(const RunSettings& settings, const MpiSession& session, Communicator& world) {
  std::unique_ptr<Inputs> inputs;
  together(world, [&] {
    check_device(settings);
    inputs = std::make_unique<Inputs>(settings, session.size());
  });
  return inputs;
}

}  // namespace

Status run_training(const RunSettings& settings, const MpiSession& session, Communicator& world) {
  const auto inputs = checked_inputs(settings, session, world);
  together(world, [&] { check_directory(settings, world.rank()); });
  return TrainingRun(settings, *inputs, session).run();
}

Status run_evaluation(const RunSettings& settings, const MpiSession& session, Communicator& world) {
  return evaluate(settings, *checked_inputs(settings, session, world), session);
}

void check_run(const RunSettings& settings, const MpiSession& session, Communicator& world) {
  checked_inputs(settings, session, world);
}

}  // namespace moesaic
