#include <fmt/format.h>

#include "moesaic/base/contract.hpp"
#include "moesaic/comm/mpi_communicator.hpp"

namespace moesaic {

Communicators make_communicators(const ProcessGrid& grid, MPI_Comm parent, Arena& arena,
                                 std::int64_t max_message_bytes) {
  MpiHandle world = MpiHandle::duplicate(parent);
  const int rank = world.rank(), ranks = world.size();
  MOESAIC_VALIDATE(
      ranks == grid.ranks(),
      "the grid has {} ranks but MPI started {} (every rank needs its place in the grid); start {} ranks or "
      "change the [grid] section",
      grid.ranks(), ranks, grid.ranks());
  const auto along = [&](std::initializer_list<Axis> axes) {
    // The lowest rank of a group names it.
    return std::make_unique<MpiCommunicator>(MpiHandle::split(parent, grid.group(rank, axes).front()), arena,
                                             max_message_bytes);
  };
  Communicators result;
  result.context = along({Axis::context});
  result.tokens = along({Axis::replicate, Axis::shard, Axis::context});
  result.pipeline_down = along({Axis::pipeline});
  result.pipeline_up = along({Axis::pipeline});
  result.dense_shard = along({Axis::shard, Axis::context});
  result.dense_replicate = along({Axis::replicate});
  result.expert = along({Axis::expert});
  result.expert_shard = along({Axis::expert_shard});
  result.expert_replicate = along({Axis::expert_replicate});
  result.world = std::make_unique<MpiCommunicator>(std::move(world), arena, max_message_bytes);
  return result;
}

}  // namespace moesaic
