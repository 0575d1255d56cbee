// Ranks: 2 3 4
// Runs in which all tokens choose one expert, beyond what its rank's receive buffers hold: steps are taken with smaller
// micro-batches, then in rounds, and come out as they would without a bound.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cstring>
#include <fstream>

#include "support/golden_run.hpp"
#include "support/step_runner.hpp"

namespace moesaic {
namespace {

constexpr std::int64_t length = 24, rows_of_a_rank = 4;

struct Case {
  int pipeline = 1;
  Recompute recompute = Recompute::none;
  ScheduleKind schedule = ScheduleKind::one_f_one_b;
};

class ReceiveBoundRun : public ::testing::Test {
 protected:
  ReceiveBoundRun() {
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (ScratchFolder::first()) write_inputs();
    MPI_Barrier(MPI_COMM_WORLD);
  }

  /// A router of one choice among 12 experts, and rows of one and the same token: all choose the same.
  void write_inputs() const {
    nlohmann::json config = nlohmann::json::parse(std::ifstream(golden.config()));
    config.update({{"num_local_experts", 12}, {"num_experts_per_tok", 1}, {"norm_topk_prob", false}});
    std::ofstream(scratch.path() / "config.json") << config;
    write_rows_file(scratch.path() / "rows.h5",
                    {.columns = length + 1, .tokens = std::vector<std::int32_t>(16 * (length + 1), 7)});
  }

  /// `micro_batch` sequences in each of two micro-batches of four on each data rank.
  RunSettings settings(const Case& one, std::int64_t micro_batch, const std::string& directory) const {
    RunSettings run;
    run.name = directory;
    run.directory = scratch.path() / directory;
    run.config = scratch.path() / "config.json";
    run.seed = 5;
    run.data = {.path = scratch.path() / "rows.h5",
                .format = DataFormat::rows,
                .sequence = length,
                .shuffle = false,
                .separator = {},
                .validation = scratch.path() / "rows.h5"};
    run.steps = 3;
    run.global_batch = 2 * rows_of_a_rank * size / one.pipeline;
    run.micro_batch = micro_batch;
    run.optimizer.lr = 1e-3;
    run.grid = {.pipeline = one.pipeline, .expert = size / one.pipeline};
    run.schedule = one.schedule;
    run.recompute = one.recompute;
    run.balance = Balance::auxiliary;
    run.log_every = 1000;
    return run;
  }

  std::vector<nlohmann::json> metrics(RunSettings run, double bound) const {
    run.receive_bound = bound;
    run.bound_on_host = bound > 0;
    return trained_metrics(run);
  }

  std::vector<nlohmann::json> overflows(const std::string& directory) const {
    std::vector<nlohmann::json> found;
    std::ifstream file(scratch.path() / directory / "events.jsonl");
    for (std::string line; std::getline(file, line);) {
      const auto event = nlohmann::json::parse(line);
      if (event["event"] == "overflow") found.push_back(event);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    return found;
  }

  /// Experts' ranks.
  int group(const Case& one) const { return size / one.pipeline; }

  std::vector<Case> cases() const {
    std::vector<Case> all{{}, {.recompute = Recompute::selective}, {.recompute = Recompute::block}};
    if (size == 4)
      for (const ScheduleKind schedule : {ScheduleKind::one_f_one_b, ScheduleKind::zero_bubble})
        for (const Recompute recompute : {Recompute::none, Recompute::block})
          all.push_back({.pipeline = 2, .recompute = recompute, .schedule = schedule});
    return all;
  }

  static std::vector<std::byte> state_of(StepRunner& ranks) {
    std::vector<std::byte> bytes;
    const auto add = [&](const View& values) {
      const auto* data = static_cast<const std::byte*>(values.raw());
      bytes.insert(bytes.end(), data, data + values.bytes());
    };
    for (const auto& unit : ranks.assembly.sharding.units()) add(unit->values());
    for (const MoeAccounts& account : ranks.assembly.model.accounts()) add(account.selection_bias);
    return bytes;
  }

  int size = 1;
  GoldenCase golden{"qwen3_moe"};
  ScratchFolder scratch{"receive-bound"};
};

/// 4 sequences of each of X ranks come where 4 bound are held: half as many, and half of that, until they fit.
TEST_F(ReceiveBoundRun, TakesAStepAgainWithSmallerMicroBatches) {
  int tried = 0;
  for (const Case& one : cases()) {
    for (const double bound : {1.0, 1.5}) {
      const int ranks = group(one);
      const std::int64_t fits = ranks * 2 <= 4 * bound ? 2 : 1;
      SCOPED_TRACE(fmt::format("pipeline {} recompute {} schedule {} bound {}", one.pipeline,
                               static_cast<int>(one.recompute), name_of(one.schedule), bound));
      const std::string name = fmt::format("{}", ++tried);
      const auto expected = metrics(settings(one, fits, name + "-small"), 0);
      const auto found = metrics(settings(one, rows_of_a_rank, name), bound);
      ASSERT_EQ(found.size(), 3u);
      for (std::size_t i = 0; i < 3; ++i)
        for (const char* figure : {"loss", "auxiliary_loss", "grad_norm", "expert_load"})
          EXPECT_EQ(found[i][figure], expected[i][figure]) << figure << " of step " << i + 1;
      EXPECT_NEAR(found[2]["validation_loss"].get<double>(), expected[2]["validation_loss"].get<double>(), 1e-6);
      const auto events = overflows(name);
      ASSERT_EQ(events.size(), 3u);
      for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(events[i]["step"], i + 1);
        EXPECT_EQ(events[i]["rows"], fmt::format("{}", 4 * length * ranks));
        EXPECT_EQ(events[i]["most_rows"], fmt::format("{}", std::llround(bound * 4 * length)));
        EXPECT_EQ(events[i]["micro_batch"], fmt::format("{}", fits));
      }
    }
  }
}

TEST_F(ReceiveBoundRun, CarriesSingleSequencesInRounds) {
  int tried = 0;
  for (const Case& one : cases()) {
    SCOPED_TRACE(fmt::format("pipeline {} recompute {} schedule {}", one.pipeline, static_cast<int>(one.recompute),
                             name_of(one.schedule)));
    const std::string name = fmt::format("{}", ++tried);
    const auto expected = metrics(settings(one, 1, name + "-free"), 0);
    const auto found = metrics(settings(one, 1, name), 1.25);
    ASSERT_EQ(found.size(), 3u);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_NEAR(found[i]["loss"].get<double>() / expected[i]["loss"].get<double>(), 1, 5e-6) << i;
      EXPECT_NEAR(found[i]["grad_norm"].get<double>() / expected[i]["grad_norm"].get<double>(), 1, 5e-5) << i;
      EXPECT_EQ(found[i]["expert_load"], expected[i]["expert_load"]);
    }
    const auto events = overflows(name);
    ASSERT_EQ(events.size(), 3u);
    EXPECT_EQ(events[0]["rows"], fmt::format("{}", length * group(one)));
    EXPECT_EQ(events[0]["most_rows"], "30");  // 1.25 x 24
    EXPECT_EQ(events[0]["micro_batch"], "1");
  }
}

TEST_F(ReceiveBoundRun, IsSilentWhereNothingOverflows) {
  const Case plain;
  const auto expected = metrics(settings(plain, 2, "free"), 0), found = metrics(settings(plain, 2, "wide"), size);
  ASSERT_EQ(found.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(found[i]["grad_norm"], expected[i]["grad_norm"]);
  EXPECT_TRUE(overflows("wide").empty());
}

TEST_F(ReceiveBoundRun, ADiscardedStepChangesNothing) {
  RunSettings run = settings({}, rows_of_a_rank, "unused");
  run.balance = Balance::bias;
  run.receive_bound = 1;
  run.bound_on_host = true;
  StepRunner ranks(run);
  const auto before = state_of(ranks);
  const StepResult result = ranks.step();
  ASSERT_TRUE(result.overflow);
  EXPECT_TRUE(result.overflow->discarded());
  EXPECT_EQ(result.overflow->rows, 4 * length * size);
  EXPECT_EQ(result.overflow->slots, 4 * length * size);
  EXPECT_EQ(result.overflow->most_rows, 4 * length);
  EXPECT_LT(result.overflow->layer, 3);
  EXPECT_EQ(state_of(ranks), before);
  EXPECT_TRUE(ranks.step(true).stop);
}

}  // namespace
}  // namespace moesaic
