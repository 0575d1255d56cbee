#pragma once
/// How the device memory of one rank gets to another's.

#include <cstdint>

namespace moesaic {

enum class DeviceExchange : std::uint8_t {
  automatic,   ///< nccl where every rank has a GPU of its own, else ipc where it works, else staged
  nccl,        ///< over NCCL; a rank that is alone in its group copies
  nccl_alone,  ///< the same, but such a rank takes NCCL too: tests on one GPU
  ipc,         ///< a rank reads from the others' memory: several ranks on one GPU, all on one host
  staged,      ///< copied to the host, over MPI, and back: several ranks on one GPU
};

}  // namespace moesaic
