#pragma once
/// A whole run: from settings to the last checkpoint.

#include "moesaic/comm/communicator.hpp"
#include "moesaic/comm/mpi_session.hpp"
#include "moesaic/train/settings.hpp"

namespace moesaic {

/// Exit statuses of the program.
enum Status : int { done = 0, failed = 1, bad_input = 2, stopped = 75 };

/// Trains as the settings say, from a checkpoint of the run directory when there is one. Returns done, or stopped behind a
/// complete checkpoint. Throws InputError on all ranks alike before anything is trained. `world`: all ranks. Collective.
Status run_training(const RunSettings& settings, const MpiSession& session, Communicator& world);

/// Loss on data.validation (or data.path), of the newest checkpoint or model.init: one JSON line on standard output.
Status run_evaluation(const RunSettings& settings, const MpiSession& session, Communicator& world);

/// Checks everything that can be checked without training (train --check): files, shapes, grid, data.
void check_run(const RunSettings& settings, const MpiSession& session, Communicator& world);

}  // namespace moesaic
