// Ranks: 1 2 3 4 6 8
// The reference curve on any grid: 20 losses within 5e-6 and 20 gradient norms within 5e-5, relative.
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "support/golden_run.hpp"

namespace moesaic {
namespace {

int world_size() {
  int size = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

class GoldenCurve : public ::testing::Test {
 protected:
  void SetUp() override { write_golden_rows(golden, rows()); }
  std::filesystem::path rows() const { return scratch.path() / "rows.h5"; }
  RunSettings settings(const std::string& name) const { return golden_settings(golden, rows(), scratch.path() / name); }

  void expect_curve(const std::vector<nlohmann::json>& metrics) const {
    const auto loss = golden.numbers("train.loss"), norm = golden.numbers("train.grad_norm");
    ASSERT_EQ(metrics.size(), loss.size());
    for (std::size_t i = 0; i < loss.size(); ++i) {
      EXPECT_LE(std::abs(metrics[i]["loss"].get<double>() / loss[i] - 1), 5e-6) << "step " << i + 1;
      EXPECT_LE(std::abs(metrics[i]["grad_norm"].get<double>() / norm[i] - 1), 5e-5) << "step " << i + 1;
    }
  }

  GoldenCase golden{"qwen3_moe"};
  ScratchFolder scratch{"golden-curve"};
};

TEST_F(GoldenCurve, EveryLegalExpertAxis) {
  for (int expert : {1, 2, 4, 8}) {
    if (world_size() % expert != 0) continue;
    SCOPED_TRACE("expert " + std::to_string(expert));
    RunSettings run = settings("expert" + std::to_string(expert));
    run.grid.expert = expert;
    expect_curve(trained_metrics(run));
  }
}

TEST_F(GoldenCurve, ReplicasAndReductionOnceAStep) {
  for (int replicate : {2, 3}) {
    if (world_size() % replicate != 0) continue;
    RunSettings run = settings("replicate" + std::to_string(replicate));
    run.grid.replicate = replicate;
    run.reduce_every_micro_batch = false;
    expect_curve(trained_metrics(run));
  }
}

TEST_F(GoldenCurve, MicroBatchesOfAnySize) {
  RunSettings run = settings("micro3");
  run.micro_batch = 3;
  expect_curve(trained_metrics(run));
}

TEST_F(GoldenCurve, TheSameBitsTwice) {
  RunSettings run = settings("first");
  run.grid.expert = world_size() % 2 == 0 ? 2 : 1;
  const auto first = trained_metrics(run);
  run.directory = scratch.path() / "second";
  const auto second = trained_metrics(run);
  ASSERT_FALSE(first.empty());
  ASSERT_EQ(first.size(), second.size());
  for (std::size_t i = 0; i < first.size(); ++i)
    for (const char* key : {"loss", "grad_norm", "auxiliary_loss", "expert_load"})
      EXPECT_EQ(first[i][key].get<double>(), second[i][key].get<double>()) << key << " at step " << i + 1;
}

/// What one rank computes; tests/layers hold the definition itself.
constexpr std::array sequence_scope{1.305376808, 1.304400444, 1.267462969, 1.250337164, 1.159374634};
constexpr std::array batch_scope{1.162392934, 1.136036396, 1.138542652, 1.132146597, 1.073492169};

/// The auxiliary loss is defined over sequences of the global batch: the same on every grid, up to rounding.
TEST_F(GoldenCurve, AuxiliaryLossIsTheSameOnEveryGrid) {
  for (BalanceScope scope : {BalanceScope::sequence, BalanceScope::batch}) {
    RunSettings run = settings(scope == BalanceScope::sequence ? "sequence" : "batch");
    run.balance = Balance::auxiliary;
    run.auxiliary_coefficient = 0.1;
    run.auxiliary_scope = scope;
    run.micro_batch = run.global_batch;  // in batch scope the micro-batch is part of the definition
    run.grid.expert = world_size() % 4 == 0 ? 4 : 1;
    run.steps = 5;
    const auto metrics = trained_metrics(run);
    ASSERT_EQ(metrics.size(), 5u);
    const auto& expected = scope == BalanceScope::sequence ? sequence_scope : batch_scope;
    for (std::size_t i = 0; i < 5; ++i)
      EXPECT_NEAR(metrics[i]["auxiliary_loss"].get<double>(), expected[i], 2e-6) << "step " << i + 1;
  }
}

}  // namespace
}  // namespace moesaic
