#include "moesaic/train/evaluation.hpp"

#include <mpi.h>

#include <nlohmann/json.hpp>
#include <algorithm>

#include "moesaic/base/log.hpp"
#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/comm/agreement.hpp"
#include "moesaic/train/micro_batches.hpp"

namespace moesaic {

namespace {

/// The forwards of the schedule, in its order.
std::vector<ScheduleStep> forwards(ScheduleKind kind, const PipelinePlace& place, std::int64_t micro_batches) {
  std::vector<ScheduleStep> steps = make_schedule(kind, place.stages, place.stage, place.chunks, micro_batches);
  std::erase_if(steps, [](const ScheduleStep& step) { return step.work != Work::forward; });
  return steps;
}

}  // namespace

double mean_loss(Assembly& assembly, const Dataset& data, const ProcessGrid& grid, int rank,
                 const RunSettings& settings, const std::function<void()>& progress) {
  const BatchCut cut{data.rows(), settings.micro_batch, grid.data_ranks()};
  const Sampler in_order(data.rows(), false, settings.seed);
  double sum = 0;
  std::int64_t labels = 0;
  // As many at once as keep all stages busy.
  const std::int64_t in_flight = 4 * assembly.runner.place().stages;
  for (std::int64_t first = 0; first < cut.micro_batches(); first += in_flight) {
    progress();
    std::vector<HostBatch> batches;
    for (std::int64_t m = first; m < std::min(first + in_flight, cut.micro_batches()); ++m) {
      const BatchCut::Range mine = cut.sequences(grid.data_rank(rank), m);
      batches.push_back(part_of(read_batch(data, in_order, 0, mine, settings.data.sequence), grid.extent(Axis::context),
                                grid.coordinate(rank, Axis::context)));
      labels += batches.back().counted;
    }
    MicroBatches here(batches, assembly.context.on);
    assembly.runner.run(forwards(settings.schedule, assembly.runner.place(), std::ssize(batches)), here.views(),
                        Reduction::last_micro_batch, nullptr);
    Readings readings(assembly.context.on.stream, *assembly.context.on.arena);
    assembly.runner.add_losses(readings);
    readings.read();
    sum += assembly.runner.take_loss_sums().loss;
  }
  assembly.communicators.world->all_reduce(host_view(&sum, {1}));
  assembly.communicators.tokens->all_reduce(host_view(&labels, {1}));
  return sum / static_cast<double>(std::max<std::int64_t>(labels, 1));
}

Status evaluate(const RunSettings& settings, const Inputs& inputs, const MpiSession& session,
                const std::function<void()>& progress) {
  Assembly assembly(settings, inputs, session);
  Communicator& world = *assembly.communicators.world;
  const std::string& from = inputs.start.path;
  if (from.empty())
    assembly.initialise(settings, inputs);
  else
    load_checkpoint(from, MPI_COMM_WORLD, assembly.parameters(), assembly.context.on.stream, progress);

  const Dataset& data = inputs.data.validation ? *inputs.data.validation : *inputs.data.training;
  const double loss = mean_loss(assembly, data, inputs.grid, session.rank(), settings, progress);
  const nlohmann::ordered_json line{{"loss", loss},
                                    {"rows", data.rows()},
                                    {"tokens", data.rows() * settings.data.sequence},
                                    {"weights", from.empty() ? settings.init : from}};
  // A path may hold bytes that are no UTF-8.
  log_line("{}", line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  world.barrier();
  return done;
}

}  // namespace moesaic
