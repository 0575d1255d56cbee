#pragma once
/// A training step of one rank, rehearsed: the real schedule, sharding, layers and optimizer, with operators that compute
/// nothing, memory that is only addresses, and communicators that are alone. What a run will hold and send is thereby
/// known before it begins, exactly, and without a second list of what each layer keeps.

#include <array>
#include <map>
#include <string>

#include "moesaic/parallel/expert_parallel.hpp"
#include "moesaic/train/decomposition.hpp"

namespace moesaic {

/// What came of a rehearsal.
struct Rehearsal {
  std::array<std::int64_t, num_labels> bytes{};  ///< of each label when all together were most
  std::array<std::int64_t, num_labels> peaks{};  ///< of each label at its own most
  std::int64_t peak = 0;                         ///< sum of `bytes`
  std::int64_t reach = 0;                        ///< what the arena must be able to hold: the peak and its gaps
  std::map<std::string, std::int64_t> sent;      ///< bytes to other ranks in a step, by communicator

  std::int64_t of(Label label) const { return bytes[static_cast<std::size_t>(label)]; }
};

/// Rehearses a step of `rank` on a device of that kind: on the CPU exchanges go through MPI, on GPUs through NCCL. Routing
/// is taken to be even, or so that all receive buffers are full. Of many micro-batches as few run as it takes to see all that recurs.
/// InputError where the rank would hold more than any machine can address.
Rehearsal rehearse(const RunSettings& settings, const Decomposition& parts, int rank, DeviceKind device,
                   ExpertLoad load = ExpertLoad::even);

/// The device that plans are for: a GPU unless run.device = cpu.
DeviceKind planned_device(const RunSettings& settings);

}  // namespace moesaic
