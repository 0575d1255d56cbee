#include "moesaic/parallel/initialise.hpp"

#include <gtest/gtest.h>

#include "moesaic/base/random.hpp"
#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/parallel/fully_sharded.hpp"
#include "support/every_grid.hpp"
#include "support/stub_block.hpp"
#include "support/units.hpp"

namespace moesaic {
namespace {

constexpr std::uint64_t seed = 42;
constexpr double range = 0.02;

std::vector<std::unique_ptr<ModelBlock>> make_blocks() {
  std::vector<std::unique_ptr<ModelBlock>> blocks;
  blocks.push_back(std::make_unique<StubBlock>(std::vector<UnitSpec>{
      dense_unit("dense", {{.name = "norm", .shape = {7}, .initialisation = Initialisation::ones, .matrix = false},
                           {.name = "bias", .shape = {21}, .initialisation = Initialisation::zeros},
                           {.name = "weight", .shape = {13, 11}}}),
      expert_unit("experts", {{.name = "up", .shape = {24, 3, 5}}})}));
  return blocks;
}

/// The whole tensor, drawn in one go.
std::vector<float> expected(const ParameterSpec& parameter) {
  std::vector<float> values(parameter.shape.size(), parameter.initialisation == Initialisation::ones ? 1.0f : 0.0f);
  if (parameter.initialisation == Initialisation::normal)
    fill_normal(random_key(seed, parameter.name), 0, values, range);
  return values;
}

TEST(InitialiseRandom, TheSameBitsOnEveryGrid) {
  Arena arena(host_memory());
  const LayerContext context{&operators(DeviceKind::cpu), {host_stream, &arena}, DType::f32};
  const auto blocks = make_blocks();
  for (const ProcessGrid& grid : every_grid()) {
    SCOPED_TRACE(grid.describe());
    const Communicators communicators = make_communicators(grid, MPI_COMM_WORLD, arena);
    const int rank = communicators.world->rank();
    FullySharded sharding(blocks, context, grid, rank, communicators);
    for (const auto& unit : sharding.units()) initialise_random(*unit, seed, range);

    const BlockViews views = sharding.gather(0, -1);
    for (std::size_t u = 0; u < views.size(); ++u) {
      for (std::size_t p = 0; p < views[u].size(); ++p) {
        const UnitSpec& unit = blocks[0]->units()[u];
        const std::vector<float> whole = expected(unit.parameters[p]);
        const std::int64_t first = unit.expert ? views[u][p].size() * grid.coordinate(rank, Axis::expert) : 0;
        for (std::int64_t i = 0; i < views[u][p].size(); ++i)
          ASSERT_EQ(views[u][p].data<float>()[i], whole[first + i]) << unit.parameters[p].name << " " << i;
      }
    }
  }
}

TEST(InitialiseRandom, PaddingIsZero) {
  Arena arena(host_memory());
  const LayerContext context{&operators(DeviceKind::cpu), {host_stream, &arena}, DType::f32};
  const auto blocks = make_blocks();
  const ProcessGrid grid = every_grid().front();
  const Communicators communicators = make_communicators(grid, MPI_COMM_WORLD, arena);
  FullySharded sharding(blocks, context, grid, communicators.world->rank(), communicators);
  ShardedUnit& unit = *sharding.units()[0];
  initialise_random(unit, seed, range);
  std::vector<float> rest(unit.values().data<float>(), unit.values().data<float>() + unit.values().size());
  for (const SlicePiece& piece : unit.pieces()) std::fill_n(rest.begin() + piece.at, piece.elements.size(), 0.0f);
  EXPECT_EQ(rest, std::vector<float>(rest.size(), 0.0f));
}

}  // namespace
}  // namespace moesaic
