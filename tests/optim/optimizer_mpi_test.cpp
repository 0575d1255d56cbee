#include "moesaic/optim/optimizer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "moesaic/comm/mirror_communicator.hpp"
#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/parallel/initialise.hpp"
#include "support/every_grid.hpp"
#include "support/host_tensor.hpp"
#include "support/stub_block.hpp"
#include "support/units.hpp"

namespace moesaic {
namespace {

using Blocks = std::vector<std::unique_ptr<ModelBlock>>;

Blocks make_blocks(std::vector<std::vector<UnitSpec>> units) {
  Blocks blocks;
  for (auto& of_block : units) blocks.push_back(std::make_unique<StubBlock>(std::move(of_block)));
  return blocks;
}

/// An embedding, a block with experts, and a head tied to the embedding.
Blocks tied_model() {
  const ParameterSpec norm{.name = "block/norm", .shape = {9}, .initialisation = Initialisation::ones, .matrix = false};
  return make_blocks({{dense_unit("embedding", {{.name = "embedding/weight", .shape = {17, 5}}})},
                      {dense_unit("block", {norm, {.name = "block/weight", .shape = {8, 9}}}),
                       expert_unit("experts", {{.name = "experts/up", .shape = {24, 3, 4}}})},
                      {tied_unit("head_table", {{.name = "head/weight", .shape = {17, 5}}}, "embedding")}});
}

std::vector<std::string> names_of(const Blocks& blocks) {
  std::vector<std::string> names;
  for (const auto& block : blocks)
    for (const UnitSpec& unit : block->units())
      for (const ParameterSpec& parameter : unit.parameters) names.push_back(parameter.name);
  return names;
}

Communicators one_rank() {
  const auto alone = [] { return std::make_unique<MirrorCommunicator>(1); };
  return {.world = alone(),
          .context = alone(),
          .tokens = alone(),
          .pipeline_down = alone(),
          .pipeline_up = alone(),
          .dense_shard = alone(),
          .dense_replicate = alone(),
          .expert = alone(),
          .expert_shard = alone(),
          .expert_replicate = alone()};
}

/// The gradient of the whole model: multiples of 1/64, whose sums and squares are exact.
double whole_gradient(const std::string& name, std::int64_t element, std::int64_t step) {
  return static_cast<double>((element * 37 + static_cast<std::int64_t>(name.size()) * 11 + step * 5) % 101 - 50) / 64;
}

/// The part of it that member `index` of a group of `size` adds: unlike the others', together the whole.
double share(double whole, int index, int size) {
  return index + 1 < size ? (index + 1) / 8.0 : whole - size * (size - 1) / 2 / 8.0;
}

/// One rank's part of a model under training.
class Training {
 public:
  Training(const Blocks& blocks, const OptimizerSettings& settings, const ProcessGrid& grid, int rank,
           Communicators communicators)
      : grid_(grid), rank_(rank), communicators_(std::move(communicators)), blocks_(&blocks),
        sharding(blocks, context_, grid, rank, communicators_),
        optimizer(settings, *context_.ops, context_.on, sharding.units(), names_of(blocks), *communicators_.world) {
    for (const auto& unit : sharding.units())
      if (!unit->tied()) initialise_random(*unit, 1, 1);
  }

  /// Gradients and their norm.
  double backward(std::int64_t step) {
    sharding.zero_gradients();
    for (int b = static_cast<int>(blocks_->size()) - 1; b >= 0; --b) {
      const BlockViews views = sharding.gradients(b);
      for (std::size_t u = 0; u < views.size(); ++u)
        for (std::size_t p = 0; p < views[u].size(); ++p) add((*blocks_)[b]->units()[u], p, step, views[u][p]);
      sharding.reduce(b);
    }
    sharding.finish_gradients();
    Readings readings(optimizer.context().stream, *optimizer.context().arena);
    optimizer.add_squares(readings);
    readings.read();
    return optimizer.gradient_norm();
  }

 private:
  void add(const UnitSpec& unit, std::size_t parameter, std::int64_t step, View gradient) {
    const std::vector<int> group = unit.expert ? grid_.group(rank_, {Axis::expert_replicate, Axis::expert_shard})
                                               : grid_.group(rank_, {Axis::replicate, Axis::shard, Axis::context});
    const auto index = static_cast<int>(std::find(group.begin(), group.end(), rank_) - group.begin());
    const std::int64_t first = unit.expert ? gradient.size() * grid_.coordinate(rank_, Axis::expert) : 0;
    for (std::int64_t i = 0; i < gradient.size(); ++i) {
      const double whole = whole_gradient(unit.parameters[parameter].name, first + i, step);
      gradient.data<float>()[i] += static_cast<float>(share(whole, index, static_cast<int>(group.size())));
    }
  }

  Arena arena_{host_memory()};
  LayerContext context_{&operators(DeviceKind::cpu), {host_stream, &arena_}, DType::f32};
  ProcessGrid grid_;
  int rank_;
  Communicators communicators_;
  const Blocks* blocks_;

 public:
  FullySharded sharding;  // below what it refers to
  Optimizer optimizer;
};

class OptimizerOnEveryGrid : public ::testing::Test {
 protected:
  /// Values and moments of `training` are those of `whole`, a training on one rank.
  static void expect_same_state(const Training& training, const Training& whole) {
    for (std::size_t u = 0; u < training.sharding.units().size(); ++u) {
      const ShardedUnit &mine = *training.sharding.units()[u], &all = *whole.sharding.units()[u];
      if (mine.tied()) continue;
      expect_same(mine, mine.values(), all, all.values());
      expect_same(mine, training.optimizer.first_moment(u), all, whole.optimizer.first_moment(u));
      expect_same(mine, training.optimizer.second_moment(u), all, whole.optimizer.second_moment(u));
    }
  }

  Blocks blocks = tied_model();
  Arena arena{host_memory()};
  int rank = 0;
  OptimizerOnEveryGrid() { MPI_Comm_rank(MPI_COMM_WORLD, &rank); }

 private:
  /// The same bits, element by element of the global parameters.
  static void expect_same(const ShardedUnit& unit, View slice, const ShardedUnit& whole_unit, View whole) {
    for (const SlicePiece& piece : unit.pieces()) {
      const std::int64_t to_whole = whole_unit.pieces()[piece.parameter].at + piece.elements.begin;
      for (std::int64_t i = 0; i < piece.elements.size(); ++i)
        ASSERT_EQ(element(slice, piece.at + i), element(whole, to_whole + i)) << unit.spec().name << " " << i;
    }
  }
};

TEST_F(OptimizerOnEveryGrid, NormsAndUpdatesAreThoseOfOneRank) {
  for (DType moments : {DType::f32, DType::bf16}) {
    const OptimizerSettings settings{.weight_decay = 0.1, .clip = 2.0, .moments = moments};
    const ProcessGrid one = ProcessGrid::make({.shard = 1}, 1);
    for (const ProcessGrid& grid : every_grid()) {
      SCOPED_TRACE(grid.describe());
      Training whole(blocks, settings, one, 0, one_rank());
      Training training(blocks, settings, grid, rank, make_communicators(grid, MPI_COMM_WORLD, arena));
      for (std::int64_t step = 1; step <= 3; ++step) {
        const double norm = training.backward(step);
        EXPECT_EQ(norm, whole.backward(step)) << "step " << step;
        training.optimizer.update(step, 0.01, norm);
        whole.optimizer.update(step, 0.01, norm);
        expect_same_state(training, whole);
      }
    }
  }
}

/// Each tensor once: neither the replicas' copies nor the tied head's own gradients count again.
TEST_F(OptimizerOnEveryGrid, TheNormCountsEveryElementOnce) {
  double sum = 0;
  for (const auto& block : blocks) {
    for (const UnitSpec& unit : block->units()) {
      if (!unit.tied_to.empty()) continue;
      for (const ParameterSpec& parameter : unit.parameters) {
        for (std::int64_t i = 0; i < parameter.shape.size(); ++i) {
          double gradient = whole_gradient(parameter.name, i, 1);
          if (unit.name == "embedding") gradient += whole_gradient("head/weight", i, 1);
          sum += gradient * gradient;
        }
      }
    }
  }
  for (const ProcessGrid& grid : every_grid()) {
    Training training(blocks, {}, grid, rank, make_communicators(grid, MPI_COMM_WORLD, arena));
    EXPECT_EQ(training.backward(1), std::sqrt(sum)) << grid.describe();
  }
}

TEST_F(OptimizerOnEveryGrid, ATiedUnitHasNoMoments) {
  const ProcessGrid grid = every_grid().front();
  Training training(blocks, {}, grid, rank, make_communicators(grid, MPI_COMM_WORLD, arena));
  EXPECT_FALSE(training.optimizer.first_moment(0).absent());
  EXPECT_TRUE(training.optimizer.first_moment(3).absent());
  EXPECT_TRUE(training.optimizer.second_moment(3).absent());
}

/// A matrix and a vector of two elements each on one rank, all 1, and the gradient (3, 4) of the matrix.
class OptimizerByHand : public ::testing::Test {
 protected:
  /// Beta 0.9 and 0.99, eps 1: the first update is lr * g / (|g| + 1) whatever the betas.
  static OptimizerSettings settings() { return {.beta1 = 0.9, .beta2 = 0.99, .eps = 1, .weight_decay = 0, .clip = 0}; }
  void update(const OptimizerSettings& chosen) {
    optimizer.emplace(chosen, operators(DeviceKind::cpu), context.on, sharding.units(), names_of(blocks),
                      *communicators.world);
    ShardedUnit& unit = *sharding.units()[0];
    initialise_random(unit, 0, 1);
    sharding.zero_gradients();
    assign(sharding.gradients(0)[0][0], {3, 4});
    Readings readings(host_stream, *context.on.arena);
    optimizer->add_squares(readings);
    readings.read();
    norm = optimizer->gradient_norm();
    optimizer->update(1, 0.1, norm);
  }
  void expect_parameter(int parameter, double first, double second) {
    const View values = sharding.gather(0, -1)[0][parameter];
    EXPECT_FLOAT_EQ(values.data<float>()[0], static_cast<float>(first));
    EXPECT_FLOAT_EQ(values.data<float>()[1], static_cast<float>(second));
  }

  Blocks blocks = make_blocks({{dense_unit(
      "unit", {{.name = "matrix", .shape = {1, 2}, .initialisation = Initialisation::ones},
               {.name = "vector", .shape = {2}, .initialisation = Initialisation::ones, .matrix = false}})}});
  Arena arena{host_memory()};
  LayerContext context{&operators(DeviceKind::cpu), {host_stream, &arena}, DType::f32};
  Communicators communicators = one_rank();
  FullySharded sharding{blocks, context, ProcessGrid::make({.shard = 1}, 1), 0, communicators};
  std::optional<Optimizer> optimizer;
  double norm = 0;
};

TEST_F(OptimizerByHand, WithoutClipping) {
  update(settings());
  EXPECT_EQ(norm, 5);
  expect_parameter(0, 1 - 0.1 * 3 / 4, 1 - 0.1 * 4 / 5);
  expect_parameter(1, 1, 1);
}

TEST_F(OptimizerByHand, ALargeGradientIsClippedToTheNorm) {
  OptimizerSettings clipped = settings();
  clipped.clip = 1;
  update(clipped);
  EXPECT_EQ(norm, 5) << "the norm is that before clipping";
  // (0.6, 0.8) up to the 1e-6 that PyTorch adds to the norm.
  const double scale = 1 / (5 + 1e-6);
  expect_parameter(0, 1 - 0.1 * 3 * scale / (3 * scale + 1), 1 - 0.1 * 4 * scale / (4 * scale + 1));
}

TEST_F(OptimizerByHand, ASmallGradientIsNotClipped) {
  OptimizerSettings wide = settings();
  wide.clip = 5.1;
  update(wide);
  expect_parameter(0, 1 - 0.1 * 3 / 4, 1 - 0.1 * 4 / 5);
}

TEST_F(OptimizerByHand, DecayOfMatricesLeavesVectors) {
  OptimizerSettings decayed = settings();
  decayed.weight_decay = 0.5;
  update(decayed);
  expect_parameter(0, 0.95 - 0.1 * 3 / 4, 0.95 - 0.1 * 4 / 5);
  expect_parameter(1, 1, 1);
}

TEST_F(OptimizerByHand, DecayOfAll) {
  OptimizerSettings decayed = settings();
  decayed.weight_decay = 0.5;
  decayed.decay = Decay::all;
  update(decayed);
  expect_parameter(0, 0.95 - 0.1 * 3 / 4, 0.95 - 0.1 * 4 / 5);
  expect_parameter(1, 0.95, 0.95);
}

TEST_F(OptimizerByHand, MomentsInBf16) {
  update(settings());
  EXPECT_FLOAT_EQ(optimizer->first_moment(0).data<float>()[0], 0.3f);
  EXPECT_FLOAT_EQ(optimizer->second_moment(0).data<float>()[1], 0.16f);
  OptimizerSettings half = settings();
  half.moments = DType::bf16;
  update(half);
  // 0.3 and 0.16 to eight bits: 154 / 512 and 164 / 1024.
  EXPECT_EQ(element(optimizer->first_moment(0), 0), 154.0 / 512);
  EXPECT_EQ(element(optimizer->second_moment(0), 1), 164.0 / 1024);
  EXPECT_EQ(optimizer->first_moment(0).bytes(), 2 * sharding.units()[0]->values().size());
  expect_parameter(0, 1 - 0.1 * 3 / 4, 1 - 0.1 * 4 / 5);
}

}  // namespace
}  // namespace moesaic
