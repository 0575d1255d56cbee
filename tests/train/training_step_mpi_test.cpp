// A step over any number of ranks is the step of one process in double: batches that do not divide, masked labels, tied
// heads, dense layers among sparse ones. And what has no gradient: balancing by bias, the balanced router, stopping.
#include "moesaic/train/training_step.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <cmath>
#include <fstream>
#include <numeric>

#include "support/every_grid.hpp"
#include "support/golden.hpp"
#include "support/local_trainer.hpp"
#include "support/rows_file.hpp"
#include "support/scratch_folder.hpp"
#include "support/step_runner.hpp"

namespace moesaic {
namespace {

class Step : public ::testing::Test {
 protected:
  Step() {
    settings.config = golden.config();
    settings.seed = 11;
    settings.data = {.path = {},
                     .format = DataFormat::synthetic,
                     .sequence = 24,
                     .shuffle = true,
                     .separator = {},
                     .validation = {}};
    settings.steps = 3;
    settings.global_batch = 5;
    settings.micro_batch = 2;
    settings.optimizer = {.lr = 3e-3, .warmup = 2, .weight_decay = 0.1, .decay = Decay::matrices, .clip = 1.0};
    settings.balance = Balance::none;
  }

  /// The grids of this job, as a deck asks for them.
  static std::vector<GridRequest> grids() {
    std::vector<GridRequest> requests;
    for (const ProcessGrid& grid : every_grid())
      if (8 % grid.extent(Axis::expert) == 0)
        requests.push_back({.replicate = grid.extent(Axis::replicate),
                            .context = grid.extent(Axis::context),
                            .expert = grid.extent(Axis::expert)});
    return requests;
  }

  void expect_steps_of_one_process() {
    for (const GridRequest& grid : grids()) {
      settings.grid = grid;
      StepRunner ranks(settings);
      SCOPED_TRACE(ranks.inputs.grid.describe());
      LocalTrainer one(ranks.inputs.spec, settings.optimizer, settings.seed);
      for (int step = 1; step <= 3; ++step) {
        const LocalTrainer::Result expected = one.step(ranks.global_batch(), settings.steps);
        const StepResult result = ranks.step();
        EXPECT_NEAR(result.loss / expected.loss, 1, 5e-6) << "step " << step;
        EXPECT_NEAR(result.gradient_norm / expected.gradient_norm, 1, 5e-5) << "step " << step;
      }
    }
  }

  /// The golden config with some keys changed.
  void use_config(const nlohmann::json& changes) {
    settings.config = scratch.path() / "config.json";
    if (ScratchFolder::first()) {
      nlohmann::json config = nlohmann::json::parse(std::ifstream(golden.config()));
      config.update(changes);
      std::ofstream(settings.config) << config;
    }
    MPI_Barrier(MPI_COMM_WORLD);
  }

  GoldenCase golden{"qwen3_moe"};
  ScratchFolder scratch{"step"};
  RunSettings settings;
};

TEST_F(Step, ABatchThatDoesNotDivide) { expect_steps_of_one_process(); }

TEST_F(Step, RanksWithoutSequences) {
  settings.global_batch = 2;
  expect_steps_of_one_process();
  settings.global_batch = 1;
  expect_steps_of_one_process();
}

TEST_F(Step, OneReductionAStep) {
  settings.global_batch = 9;
  settings.micro_batch = 1;
  settings.reduce_every_micro_batch = false;
  expect_steps_of_one_process();
}

TEST_F(Step, NoClippingAndDecayOfAll) {
  settings.optimizer.clip = 0;
  settings.optimizer.decay = Decay::all;
  expect_steps_of_one_process();
}

TEST_F(Step, ATiedHead) {
  use_config({{"tie_word_embeddings", true}});
  expect_steps_of_one_process();
}

TEST_F(Step, DenseLayersAmongSparseOnes) {
  use_config({{"mlp_only_layers", {1}}});
  expect_steps_of_one_process();
  use_config({{"mlp_only_layers", {0, 1, 2}}});
  settings.balance = Balance::bias;  // of no layer
  expect_steps_of_one_process();
}

/// Rows of which the first is not counted at all, the second in full and the others in part.
RowsContents masked_rows(std::int64_t rows, std::int64_t columns) {
  RowsContents contents{.columns = columns, .tokens = {}};
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t column = 0; column < columns; ++column) {
      contents.tokens.push_back(static_cast<std::int32_t>((row * 37 + column * 11) % 256));
      contents.loss_mask.push_back(row == 1 || (row > 1 && column % (row + 1) == 0) ? 1 : 0);
    }
  return contents;
}

TEST_F(Step, TheLossIsTheMeanOverTheCountedLabelsOfTheGlobalBatch) {
  settings.data.format = DataFormat::rows;
  settings.data.path = scratch.path() / "rows.h5";
  settings.data.shuffle = false;
  if (ScratchFolder::first()) write_rows_file(settings.data.path, masked_rows(15, 25));
  MPI_Barrier(MPI_COMM_WORLD);
  // Columns 1 to 24 are labels; of row r > 1 those divisible by r + 1 count.
  EXPECT_EQ(StepRunner(settings).global_batch().counted, 0 + 24 + 8 + 6 + 4);
  expect_steps_of_one_process();
}

TEST_F(Step, ABatchWithoutALabelIsNoDivisionByZero) {
  settings.data.format = DataFormat::rows;
  settings.data.path = scratch.path() / "rows.h5";
  RowsContents nothing = masked_rows(5, 25);
  nothing.loss_mask.assign(nothing.loss_mask.size(), 0);
  if (ScratchFolder::first()) write_rows_file(settings.data.path, nothing);
  MPI_Barrier(MPI_COMM_WORLD);
  StepRunner ranks(settings);
  const StepResult result = ranks.step();
  EXPECT_EQ(result.loss, 0);
  EXPECT_EQ(result.gradient_norm, 0);
}

/// bias_i += rate * sign(mean load - load_i) with the loads of the global batch.
TEST_F(Step, BalancingByBiasMovesEveryBiasByTheRate) {
  settings.balance = Balance::bias;
  settings.bias_rate = 0.25;
  for (const GridRequest& grid : grids()) {
    settings.grid = grid;
    StepRunner ranks(settings);
    SCOPED_TRACE(ranks.inputs.grid.describe());
    std::vector<std::vector<float>> expected(3, std::vector<float>(8, 0.0f));
    for (int step = 1; step <= 3; ++step) {
      ranks.step();
      for (std::size_t layer = 0; layer < 3; ++layer) {
        const MoeAccounts& accounts = ranks.assembly.model.accounts()[layer];
        const std::int64_t* load = accounts.load.data<std::int64_t>();
        EXPECT_EQ(std::accumulate(load, load + 8, std::int64_t{0}), 5 * 24 * 2);  // tokens x top_k: the mean is 30
        for (std::size_t e = 0; e < 8; ++e) {
          expected[layer][e] += load[e] < 30 ? 0.25f : load[e] > 30 ? -0.25f : 0.0f;
          EXPECT_EQ(accounts.selection_bias.data<float>()[e], expected[layer][e]) << "step " << step << " expert " << e;
        }
      }
    }
  }
}

TEST_F(Step, ALargeBiasEvensOutTheLoad) {
  // All tokens are one and the same, so that two experts of each layer get everything until biases move them.
  settings.data.format = DataFormat::rows;
  settings.data.path = scratch.path() / "rows.h5";
  if (ScratchFolder::first())
    write_rows_file(settings.data.path, {.columns = 25, .tokens = std::vector<std::int32_t>(5 * 25, 7)});
  MPI_Barrier(MPI_COMM_WORLD);
  settings.balance = Balance::bias;
  settings.bias_rate = 0.25;
  StepRunner ranks(settings);
  const StepResult first = ranks.step();
  EXPECT_EQ(first.expert_load, 4);  // 120 of 240 slots where the mean is 30
  std::vector<std::int64_t> before(8), after(8);
  const auto remember = [&](std::vector<std::int64_t>& load) {
    std::copy_n(ranks.assembly.model.accounts()[0].load.data<std::int64_t>(), 8, load.begin());
  };
  remember(before);
  ranks.step();
  remember(after);
  for (std::size_t e = 0; e < 8; ++e)
    EXPECT_TRUE(before[e] == 0 || (before[e] == 120 && after[e] == 0)) << e;  // its bias is 0.5 below the others'
}

TEST_F(Step, TheBalancedRouterTrainsAndIsBalanced) {
  settings.balanced_router = true;
  settings.data.format = DataFormat::rows;
  settings.data.path = scratch.path() / "rows.h5";
  if (ScratchFolder::first()) write_rows_file(settings.data.path, masked_rows(5, 25));
  MPI_Barrier(MPI_COMM_WORLD);
  expect_steps_of_one_process();
  settings.steps = 10;
  StepRunner ranks(settings);
  StepResult result = ranks.step();
  const double first = result.loss;
  EXPECT_NEAR(first, std::log(256), 0.5);
  for (int step = 2; step <= 10; ++step) {
    result = ranks.step();
    EXPECT_EQ(result.expert_load, 1);
  }
  EXPECT_LT(result.loss, first - 0.5);
}

TEST_F(Step, OneRanksWishToStopIsEverybodys) {
  StepRunner ranks(settings);
  EXPECT_FALSE(ranks.step(false).stop);
  const Communicator& world = *ranks.assembly.communicators.world;
  EXPECT_TRUE(ranks.step(world.rank() == world.size() - 1).stop);
  EXPECT_FALSE(ranks.step(false).stop);
}

}  // namespace
}  // namespace moesaic
