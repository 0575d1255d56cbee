#pragma once
/// Communicators of ranks that compute on GPUs: host memory goes over MPI, device memory over NCCL or through the host.

#include <mpi.h>

#include "moesaic/comm/communicators.hpp"
#include "moesaic/tensor/arena.hpp"
#include "moesaic/tensor/device.hpp"

namespace moesaic {

/// How device memory travels.
enum class DeviceExchange : std::uint8_t {
  nccl,  ///< every rank has a GPU of its own
  staged,  ///< copied to the host, over MPI, and back: several ranks on one GPU (tests); each exchange waits for the stream
};

/// The communicators of `grid` over the ranks of `parent`, for work ordered by `compute`. `device` makes the streams that
/// NCCL runs on; host_arena lends scratch. Both must outlive the communicators. Collective.
Communicators make_device_communicators(const ProcessGrid& grid, MPI_Comm parent, DeviceExchange exchange,
                                        Device& device, Stream compute, Arena& host_arena);

}  // namespace moesaic
