#include "moesaic/comm/device_communicators.hpp"

#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/comm/routed_communicator.hpp"
#include "moesaic/comm/staged_communicator.hpp"

#ifdef MOESAIC_CUDA
#include "moesaic/comm/nccl_communicator.hpp"
#endif

namespace moesaic {
namespace {

constexpr std::unique_ptr<Communicator> Communicators::*groups[] = {
    &Communicators::world,           &Communicators::context,     &Communicators::tokens,
    &Communicators::pipeline_down,   &Communicators::pipeline_up, &Communicators::dense_shard,
    &Communicators::dense_replicate, &Communicators::expert,      &Communicators::expert_shard,
    &Communicators::expert_replicate};

Communicators staged_over(const Communicators& host, Arena& arena, Stream compute) {
  Communicators result;
  for (const auto group : groups) result.*group = std::make_unique<StagedCommunicator>(*(host.*group), arena, compute);
  return result;
}

Communicators over_nccl(const ProcessGrid& grid, MPI_Comm parent, Device& device, Stream compute) {
#ifdef MOESAIC_CUDA
  return make_nccl_communicators(grid, parent,
                                 {.compute = compute,
                                  .gather = device.make_stream(),
                                  .reduce = device.make_stream(),
                                  .exchange = device.make_stream(),
                                  .down = device.make_stream(),
                                  .up = device.make_stream()});
#else
  static_cast<void>(grid), static_cast<void>(parent), static_cast<void>(device), static_cast<void>(compute);
  throw RunError("this program was built without NCCL; build the preset hopper");
#endif
}

}  // namespace

Communicators make_device_communicators(const ProcessGrid& grid, MPI_Comm parent, DeviceExchange exchange,
                                        Device& device, Stream compute, Arena& host_arena) {
  Communicators host = make_communicators(grid, parent, host_arena);
  Communicators on_device = exchange == DeviceExchange::nccl ? over_nccl(grid, parent, device, compute)
                                                             : staged_over(host, host_arena, compute);
  Communicators result;
  for (const auto group : groups)
    result.*group = std::make_unique<RoutedCommunicator>(std::move(host.*group), std::move(on_device.*group));
  return result;
}

}  // namespace moesaic
