#include "moesaic/train/evaluation.hpp"

#include <mpi.h>

#include <algorithm>

#include "moesaic/base/log.hpp"
#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/checkpoint/store.hpp"
#include "moesaic/comm/agreement.hpp"

namespace moesaic {

double mean_loss(ForwardPass& forward_pass, const Dataset& data, const ProcessGrid& grid, int rank,
                 const RunSettings& settings) {
  const BatchCut cut{data.rows(), settings.micro_batch, grid.data_ranks()};
  const Sampler in_order(data.rows(), false, settings.seed);
  const auto batch = [&](std::int64_t m) {
    return read_batch(data, in_order, 0, cut.sequences(grid.data_rank(rank), m), settings.data.sequence);
  };
  const LossSum losses = forward_pass.evaluate(cut.micro_batches(), batch);
  return losses.sum / static_cast<double>(std::max<std::int64_t>(losses.labels, 1));
}

Status evaluate(const RunSettings& settings, const Inputs& inputs, const MpiSession& session) {
  Assembly assembly(settings, inputs, session);
  Communicator& world = *assembly.communicators.world;
  const auto latest = CheckpointStore(settings.directory, settings.keep).latest();
  const std::string from = broadcast_text(world, latest ? latest->string() : "", 0);
  if (from.empty())
    assembly.initialise(settings, inputs);
  else
    load_checkpoint(from, MPI_COMM_WORLD, parameter_state(assembly.sharding.units(), assembly.model, world.rank()));

  const Dataset& data = inputs.data.validation ? *inputs.data.validation : *inputs.data.training;
  const double loss = mean_loss(assembly.forward_pass, data, inputs.grid, session.rank(), settings);
  log_line(R"({{"loss": {}, "rows": {}, "tokens": {}, "weights": "{}"}})", loss, data.rows(),
           data.rows() * settings.data.sequence, from.empty() ? settings.init : from);
  world.barrier();
  return done;
}

}  // namespace moesaic
