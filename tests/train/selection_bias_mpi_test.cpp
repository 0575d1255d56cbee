// Ranks: 1 2 4
// Correction biases of a family that has them: imported, saved and continued with, moved by the load only when asked.
#include <gtest/gtest.h>

#include <cmath>

#include "moesaic/checkpoint/store.hpp"
#include "moesaic/io/hdf5_file.hpp"
#include "support/golden_run.hpp"

namespace moesaic {
namespace {

class SelectionBias : public ::testing::Test {
 protected:
  SelectionBias() {
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    write_golden_rows(golden_, scratch_.path() / "rows.h5");
  }

  /// Two steps, on as many stages and experts as the ranks allow.
  RunSettings settings(Balance balance) const {
    RunSettings run = golden_settings(golden_, scratch_.path() / "rows.h5", scratch_.path() / "run");
    run.steps = 2;
    run.balance = balance;
    run.bias_rate = rate;
    run.grid.pipeline = size_ > 1 ? 2 : 1;
    run.grid.expert = size_ / run.grid.pipeline;
    return run;
  }

  /// What MoE layer `layer` began with.
  std::vector<float> imported(std::int64_t layer) const {
    const SafetensorsFile file(golden_.weights());
    return file.read<float>(fmt::format("model.layers.{}.mlp.gate.e_score_correction_bias", layer + 1));
  }

  std::vector<float> saved(const RunSettings& run, std::int64_t layer) const {
    const Hdf5File file = Hdf5File::open_serial(CheckpointStore(run.directory, 1).path_of(run.steps));
    std::vector<float> values(experts);
    const Block all{0, experts};
    file.read_flat(fmt::format("/router/selection_bias/{}", layer), {&all, 1}, host_view(values.data(), {experts}));
    return values;
  }

  static constexpr double rate = 0.0009765625;
  static constexpr std::int64_t experts = 8;
  int size_ = 1;
  GoldenCase golden_{"deepseek_v3"};
  ScratchFolder scratch_{"selection-bias"};
};

TEST_F(SelectionBias, IsImportedSavedAndContinuedWith) {
  RunSettings run = settings(Balance::none);
  for (const std::int64_t steps : {2, 3}) {
    run.steps = steps;
    trained_metrics(run);
    MPI_Barrier(MPI_COMM_WORLD);
    for (const std::int64_t layer : {0, 1}) {
      EXPECT_EQ(saved(run, layer), imported(layer)) << layer;
      EXPECT_NE(saved(run, layer), std::vector<float>(experts));
    }
    MPI_Barrier(MPI_COMM_WORLD);
  }
}

TEST_F(SelectionBias, MovesWithTheLoadWhenAsked) {
  const RunSettings run = settings(Balance::bias);
  trained_metrics(run);
  MPI_Barrier(MPI_COMM_WORLD);
  for (const std::int64_t layer : {0, 1}) {
    const std::vector<float> before = imported(layer), after = saved(run, layer);
    double moved = 0;
    for (std::size_t e = 0; e < before.size(); ++e) {
      const double steps = (static_cast<double>(after[e]) - static_cast<double>(before[e])) / rate;
      EXPECT_NEAR(steps, std::round(steps), 1e-3);  // twice up, down or not at all
      EXPECT_LE(std::abs(steps), 2.001);
      moved += std::abs(steps);
    }
    EXPECT_GT(moved, 1) << layer;
  }
}

}  // namespace
}  // namespace moesaic
