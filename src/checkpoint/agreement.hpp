#pragma once
/// Agreement among the threads that write a checkpoint.

#include <functional>

#include "moesaic/comm/mpi_communicator.hpp"

namespace moesaic {

/// Returns when every rank has come here, and sleeps meanwhile: other threads of the process compute.
void meet_quietly(MpiCommunicator& ranks);

/// together() with a quiet wait behind `work`; where any rank throws a DiskFullError, all throw NoSpaceError.
void save_together(MpiCommunicator& ranks, const std::function<void()>& work);

}  // namespace moesaic
