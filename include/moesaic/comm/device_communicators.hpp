#pragma once
/// Communicators of ranks that compute on GPUs: host memory goes over MPI, device memory as DeviceExchange says.

#include <mpi.h>

#include "moesaic/comm/communicators.hpp"
#include "moesaic/comm/device_exchange.hpp"
#include "moesaic/tensor/arena.hpp"
#include "moesaic/tensor/device.hpp"

namespace moesaic {

/// How many of the host's ranks in `ranks` compute on the GPU of this one. Collective.
int ranks_on_device(MPI_Comm ranks, const Device& device);

/// The communicators of `grid` over the ranks of `parent`, for work ordered by `compute`. `device` makes the streams that
/// NCCL runs on; host_arena lends scratch. Both must outlive the communicators. RunError where `exchange` cannot be had.
/// Collective.
Communicators make_device_communicators(const ProcessGrid& grid, MPI_Comm parent, DeviceExchange exchange,
                                        Device& device, Stream compute, Arena& host_arena);

}  // namespace moesaic
