#include "moesaic/comm/device_communicators.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <string>
#include <vector>

#include "moesaic/base/contract.hpp"
#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/comm/routed_communicator.hpp"
#include "moesaic/comm/staged_communicator.hpp"

#ifdef MOESAIC_CUDA
#include "moesaic/comm/ipc_communicator.hpp"
#include "moesaic/comm/nccl_communicator.hpp"
#include "moesaic/tensor/cuda_memory.hpp"
#endif

namespace moesaic {
namespace {

constexpr std::unique_ptr<Communicator> Communicators::*groups[] = {
    &Communicators::world,           &Communicators::context,     &Communicators::tokens,
    &Communicators::pipeline_down,   &Communicators::pipeline_up, &Communicators::dense_shard,
    &Communicators::dense_replicate, &Communicators::expert,      &Communicators::expert_shard,
    &Communicators::expert_replicate};

using Makes = std::unique_ptr<Communicator>(Communicator& host);

/// `make`: what a group exchanges device memory with, beside its communicator of the host.
Communicators beside(const Communicators& host, const std::function<Makes>& make) {
  Communicators result;
  for (const auto group : groups) result.*group = make(*(host.*group));
  return result;
}

Communicators staged_over(const Communicators& host, Arena& arena, Stream compute) {
  return beside(host, [&](Communicator& group) { return std::make_unique<StagedCommunicator>(group, arena, compute); });
}

#ifdef MOESAIC_CUDA

std::string bus_of(const Device& device) {
  char bus[32] = {};
  check_cuda(cudaDeviceGetPCIBusId(bus, sizeof bus, device.index()), "cudaDeviceGetPCIBusId");
  return bus;
}

Communicators over_nccl(const ProcessGrid& grid, MPI_Comm parent, Device& device, Stream compute, GroupsOfOne alone) {
  const auto lanes = [&] { return LaneStreams{device.make_stream(), device.make_stream(), device.make_stream()}; };
  return make_nccl_communicators(grid, parent,
                                 {.compute = compute,
                                  .gather = device.make_stream(),
                                  .reduce = device.make_stream(),
                                  .exchange = device.make_stream(),
                                  .down = lanes(),
                                  .up = lanes()},
                                 alone);
}

bool shares_device(MPI_Comm parent, const Device& device) {
  int most = ranks_on_device(parent, device);
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &most, 1, MPI_INT, MPI_MAX, parent), "MPI_Allreduce");
  return most > 1;
}

Communicators over_ipc(const Communicators& host, const std::shared_ptr<IpcMemory>& memory, Stream compute) {
  return beside(host, [&](Communicator& group) { return std::make_unique<IpcCommunicator>(group, memory, compute); });
}

Communicators make_on_device(const ProcessGrid& grid, MPI_Comm parent, DeviceExchange exchange, Device& device,
                             Stream compute, const Communicators& host, Arena& host_arena) {
  const bool chosen = exchange != DeviceExchange::automatic;
  if (!chosen) exchange = shares_device(parent, device) ? DeviceExchange::ipc : DeviceExchange::nccl;
  if (exchange == DeviceExchange::nccl) return over_nccl(grid, parent, device, compute, GroupsOfOne::copy);
  if (exchange == DeviceExchange::nccl_alone) return over_nccl(grid, parent, device, compute, GroupsOfOne::use_nccl);
  if (exchange == DeviceExchange::ipc) {
    if (const auto memory = IpcMemory::make(parent, device.index(), compute)) return over_ipc(host, memory, compute);
    if (chosen)
      throw RunError(
          "the ranks cannot open each other's device memory (CUDA IPC was asked for); start them on one host, or let "
          "them exchange through host memory");
  }
  return staged_over(host, host_arena, compute);
}

#else

Communicators make_on_device(const ProcessGrid&, MPI_Comm, DeviceExchange, Device&, Stream compute,
                             const Communicators& host, Arena& host_arena) {
  return staged_over(host, host_arena, compute);
}

#endif

}  // namespace

#ifdef MOESAIC_CUDA

int ranks_on_device(MPI_Comm ranks, const Device& device) {
  MPI_Comm host = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(ranks, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host), "MPI_Comm_split_type");
  int size = 1;
  MPI_Comm_size(host, &size);
  std::array<char, 32> mine{};
  bus_of(device).copy(mine.data(), mine.size());
  std::vector<std::array<char, 32>> all(static_cast<std::size_t>(size));
  const int code = MPI_Allgather(mine.data(), 32, MPI_CHAR, all.data(), 32, MPI_CHAR, host);
  MPI_Comm_free(&host);
  check_mpi(code, "MPI_Allgather");
  return static_cast<int>(std::ranges::count(all, mine));
}

#else

int ranks_on_device(MPI_Comm, const Device&) { return 1; }

#endif

Communicators make_device_communicators(const ProcessGrid& grid, MPI_Comm parent, DeviceExchange exchange,
                                        Device& device, Stream compute, Arena& host_arena) {
  Communicators host = make_communicators(grid, parent, host_arena);
  Communicators on_device = make_on_device(grid, parent, exchange, device, compute, host, host_arena);
  Communicators result;
  for (const auto group : groups)
    result.*group = std::make_unique<RoutedCommunicator>(std::move(host.*group), std::move(on_device.*group));
  return result;
}

}  // namespace moesaic
