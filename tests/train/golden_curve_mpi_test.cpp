// Ranks: 1 2 3 4 6 8
// The reference curve on any grid: 20 losses within 5e-6 and 20 gradient norms within 5e-5, relative.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
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

  void expect_curve(const std::vector<nlohmann::json>& metrics) const { expect_golden_curve(golden, metrics); }

  static void expect_same_bits(const std::vector<nlohmann::json>& first, const std::vector<nlohmann::json>& second) {
    ASSERT_FALSE(first.empty());
    ASSERT_EQ(first.size(), second.size());
    for (std::size_t i = 0; i < first.size(); ++i)
      for (const char* key : {"loss", "grad_norm", "auxiliary_loss", "expert_load"})
        EXPECT_EQ(first[i][key].get<double>(), second[i][key].get<double>()) << key << " at step " << i + 1;
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

TEST_F(GoldenCurve, EveryContextAxisByRingAndByGather) {
  for (int context : {2, 3, 4, 8}) {
    for (int expert : {1, 2, 4, 8}) {
      if (world_size() % context != 0 || world_size() % expert != 0 || 64 % (2 * context) != 0) continue;
      const bool gather = expert == 2 || (expert == 1 && context != 2);
      const std::string name = fmt::format("context {} expert {} {}", context, expert, gather ? "gather" : "ring");
      SCOPED_TRACE(name);
      RunSettings run = settings(name);
      run.grid.context = context;
      run.grid.expert = expert;
      run.context_exchange = gather ? ContextExchange::gather : ContextExchange::ring;
      expect_curve(trained_metrics(run));
    }
  }
}

TEST_F(GoldenCurve, ContextBesideReplicasAndMicroBatches) {
  if (world_size() % 4 != 0) GTEST_SKIP() << "two replicas of two context ranks";
  RunSettings run = settings("context-replicas");
  run.grid.context = 2;
  run.grid.replicate = 2;
  run.micro_batch = 3;
  run.reduce_every_micro_batch = false;
  expect_curve(trained_metrics(run));
}

/// Documents end wherever a token id says, inside blocks too.
TEST_F(GoldenCurve, DocumentsAreTheSameOnEveryContextAxis) {
  RunSettings whole = settings("documents");
  whole.data.separator = golden.tokens("train.tokens").at(20);
  whole.steps = 5;
  const auto expected = trained_metrics(whole);
  ASSERT_EQ(expected.size(), 5u);
  EXPECT_GT(std::abs(expected[0]["loss"].get<double>() - golden.numbers("train.loss")[0]), 1e-5) << "no documents";
  for (int context : {2, 4}) {
    if (world_size() % context != 0) continue;
    for (ContextExchange kind : {ContextExchange::ring, ContextExchange::gather}) {
      RunSettings cut = whole;
      cut.directory = scratch.path() / fmt::format("documents {} {}", context, static_cast<int>(kind));
      cut.grid.context = context;
      cut.context_exchange = kind;
      const auto metrics = trained_metrics(cut);
      ASSERT_EQ(metrics.size(), 5u);
      for (std::size_t i = 0; i < 5; ++i) {
        EXPECT_NEAR(metrics[i]["loss"].get<double>() / expected[i]["loss"].get<double>(), 1, 5e-6);
        EXPECT_NEAR(metrics[i]["grad_norm"].get<double>() / expected[i]["grad_norm"].get<double>(), 1, 5e-5);
      }
    }
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

/// Every schedule, on as many stages as the ranks allow, what is left of them as shards; the same bits for all schedules.
TEST_F(GoldenCurve, Pipelines) {
  for (int pipeline : {2, 3, 4}) {
    if (world_size() % pipeline != 0) continue;
    std::vector<nlohmann::json> first;
    for (ScheduleKind schedule : {ScheduleKind::one_f_one_b, ScheduleKind::zero_bubble, ScheduleKind::interleaved}) {
      if (schedule == ScheduleKind::interleaved && pipeline > 2) continue;  // five blocks
      SCOPED_TRACE(fmt::format("pipeline {} {}", pipeline, name_of(schedule)));
      RunSettings run = settings(fmt::format("pipeline{}-{}", pipeline, name_of(schedule)));
      run.grid.pipeline = pipeline;
      run.schedule = schedule;
      run.chunks = schedule == ScheduleKind::interleaved ? 2 : 1;
      const auto metrics = trained_metrics(run);
      expect_curve(metrics);
      if (first.empty()) first = metrics;
      expect_same_bits(first, metrics);
    }
  }
}

/// What backward computes again does not change one bit: not beside any expert axis, nor with delayed weight gradients,
/// nor in the routing that the auxiliary loss looks at.
TEST_F(GoldenCurve, RecomputeIsTheSameBits) {
  struct Grid {
    int pipeline, context, expert;
  };
  for (const Grid& grid : {Grid{1, 1, 1}, Grid{1, 1, 2}, Grid{1, 1, 4}, Grid{1, 2, 2}, Grid{2, 1, 1}, Grid{2, 1, 2},
                           Grid{3, 1, 2}, Grid{2, 2, 4}}) {
    const int others = grid.pipeline * std::max(grid.context, grid.expert);
    if (world_size() % others != 0) continue;
    const std::string name = fmt::format("recompute {} {} {}", grid.pipeline, grid.context, grid.expert);
    std::vector<nlohmann::json> kept;
    for (Recompute recompute : {Recompute::none, Recompute::block, Recompute::selective}) {
      SCOPED_TRACE(fmt::format("{} kind {}", name, static_cast<int>(recompute)));
      RunSettings run = settings(fmt::format("{} {}", name, static_cast<int>(recompute)));
      run.grid.pipeline = grid.pipeline;
      run.grid.context = grid.context;
      run.grid.expert = grid.expert;
      run.schedule = grid.pipeline > 1 ? ScheduleKind::zero_bubble : ScheduleKind::one_f_one_b;
      run.balance = Balance::auxiliary;
      run.auxiliary_coefficient = 0.1;
      run.recompute = recompute;
      run.steps = 5;
      const auto metrics = trained_metrics(run);
      if (recompute == Recompute::none) kept = metrics;
      expect_same_bits(kept, metrics);
    }
  }
}

TEST_F(GoldenCurve, RecomputeKeepsTheCurve) {
  for (Recompute recompute : {Recompute::block, Recompute::selective}) {
    SCOPED_TRACE(static_cast<int>(recompute));
    RunSettings run = settings(fmt::format("recompute curve {}", static_cast<int>(recompute)));
    run.recompute = recompute;
    run.grid.expert = world_size() % 2 == 0 ? 2 : 1;
    expect_curve(trained_metrics(run));
  }
}

TEST_F(GoldenCurve, TheSameBitsTwice) {
  RunSettings run = settings("first");
  run.grid.expert = world_size() % 2 == 0 ? 2 : 1;
  const auto first = trained_metrics(run);
  run.directory = scratch.path() / "second";
  const auto second = trained_metrics(run);
  expect_same_bits(first, second);
}

/// What one rank computes; tests/layers hold the definition itself.
constexpr std::array sequence_scope{1.305376808, 1.304400444, 1.267462969, 1.250337164, 1.159374634};
constexpr std::array batch_scope{1.162392934, 1.136036396, 1.138542652, 1.132146597, 1.073492169};

/// The auxiliary loss is defined over sequences of the global batch: the same on every grid, up to rounding.
TEST_F(GoldenCurve, AuxiliaryLossIsTheSameOnEveryGrid) {
  for (const auto& [scope, context] :
       {std::pair{BalanceScope::sequence, 1}, std::pair{BalanceScope::batch, 1}, std::pair{BalanceScope::sequence, 2},
        std::pair{BalanceScope::batch, 2}, std::pair{BalanceScope::sequence, 4}, std::pair{BalanceScope::batch, 4}}) {
    if (world_size() % context != 0) continue;
    const std::string name =
        fmt::format("{} context {}", scope == BalanceScope::sequence ? "sequence" : "batch", context);
    SCOPED_TRACE(name);
    RunSettings run = settings(name);
    run.grid.context = context;
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
