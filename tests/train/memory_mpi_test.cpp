// Fully sharded means what it says: the arena's peaks by label, on the model of the quick start and on the reference one.
#include <gtest/gtest.h>

#include "support/every_grid.hpp"
#include "support/golden.hpp"
#include "support/step_runner.hpp"

namespace moesaic {
namespace {

class Memory : public ::testing::TestWithParam<std::string> {
 protected:
  static RunSettings settings() {
    RunSettings settings;
    settings.config = GetParam();
    settings.data = {.path = {},
                     .format = DataFormat::synthetic,
                     .sequence = 32,
                     .shuffle = true,
                     .separator = {},
                     .validation = {}};
    settings.steps = 2;
    settings.global_batch = 8;
    settings.micro_batch = 1;
    settings.balance = Balance::bias;
    return settings;
  }

  /// The expert axes of this job, everything else sharded.
  static std::vector<int> expert_axes() {
    std::vector<int> axes;
    for (int expert : {1, 2, 4})
      if (every_grid()[0].ranks() % expert == 0) axes.push_back(expert);
    return axes;
  }
};

std::int64_t state_bytes(const Arena& arena) {
  return arena.peak(Label::parameters) + arena.peak(Label::gradients) + arena.peak(Label::moments);
}

TEST_P(Memory, AStepHoldsOneNthOfTheStateAndTwoGatheredBlocks) {
  for (int expert : expert_axes()) {
    RunSettings run = settings();
    run.grid.expert = expert;
    StepRunner ranks(run);
    const Arena& arena = ranks.assembly.arena;
    const int size = ranks.inputs.grid.ranks();
    SCOPED_TRACE(ranks.inputs.grid.describe());
    ranks.step();
    ranks.step();

    // One rank: a parameter, its gradient and two moments, four bytes each.
    const auto whole = static_cast<double>(16 * ranks.inputs.spec.total_parameters());
    EXPECT_LE(static_cast<double>(state_bytes(arena)), 1.05 * whole / size);
    EXPECT_GE(static_cast<double>(state_bytes(arena)), whole / size);

    const std::int64_t pieces = 4 * 256;  // two units a block, each counted in pieces of 256 bytes
    const std::int64_t two_blocks = 2 * ranks.assembly.sharding.largest_gathered_bytes() + pieces;
    EXPECT_LE(arena.peak(Label::gathered), two_blocks);
    EXPECT_LE(arena.peak(Label::unreduced_gradients), two_blocks);
    EXPECT_EQ(arena.peak(Label::gathered) > 0, size > 1);
    EXPECT_EQ(arena.peak(Label::unreduced_gradients) > 0, size > 1);
  }
}

std::int64_t activations_peak(RunSettings run, Recompute recompute) {
  run.recompute = recompute;
  StepRunner ranks(run);
  ranks.step();
  return ranks.assembly.arena.peak(Label::activations);
}

TEST_P(Memory, RecomputeLowersThePeakOfActivations) {
  for (int expert : expert_axes()) {
    RunSettings run = settings();
    run.grid.expert = expert;
    const std::int64_t selective = activations_peak(run, Recompute::selective);
    EXPECT_LT(activations_peak(run, Recompute::block), selective) << "expert " << expert;
    EXPECT_LT(selective, activations_peak(run, Recompute::none)) << "expert " << expert;
  }
}

TEST_P(Memory, NothingOfAStepStays) {
  for (int expert : expert_axes()) {
    RunSettings run = settings();
    run.grid.expert = expert;
    StepRunner ranks(run);
    const Arena& arena = ranks.assembly.arena;
    const std::int64_t before = arena.used();
    ranks.step();
    for (Label label : {Label::activations, Label::gathered, Label::unreduced_gradients, Label::exchange})
      EXPECT_EQ(arena.used(label), 0) << name_of(label);
    EXPECT_GT(arena.peak(Label::activations), 0);
    EXPECT_EQ(arena.used(), before);
  }
}

TEST_P(Memory, OneReductionAStepHoldsAllGradients) {
  // What train.reduce = step costs: the reason why it is not the default.
  RunSettings run = settings();
  run.reduce_every_micro_batch = false;
  StepRunner ranks(run);
  ranks.step();
  const auto whole = 4 * ranks.inputs.spec.total_parameters();
  const Arena& arena = ranks.assembly.arena;
  if (ranks.inputs.grid.ranks() > 1)
    EXPECT_GE(arena.peak(Label::unreduced_gradients), whole);
  else
    EXPECT_EQ(arena.peak(Label::unreduced_gradients), 0);
  EXPECT_EQ(arena.used(Label::unreduced_gradients), 0);
}

std::string config_name(const ::testing::TestParamInfo<std::string>& info) {
  return info.index == 0 ? "QuickStart" : "Reference";
}

INSTANTIATE_TEST_SUITE_P(Models, Memory,
                         ::testing::Values(MOESAIC_SOURCE_DIR "/inputs/models/quickstart.json",
                                           MOESAIC_GOLDEN "/qwen3_moe/config.json"),
                         config_name);

}  // namespace
}  // namespace moesaic
