#pragma once
/// Runs in which one rank's experts are sent far more than the mean load.

#include <fmt/format.h>

#include "support/golden_run.hpp"

namespace moesaic {

/// All tokens choose one expert.
class ReceiveBoundTest : public ::testing::Test {
 protected:
  static constexpr std::int64_t length = 24, rows_of_a_rank = 4;

  struct Case {
    int pipeline = 1;
    Recompute recompute = Recompute::none;
    ScheduleKind schedule = ScheduleKind::one_f_one_b;
  };

  ReceiveBoundTest() {
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

  /// Trains with receive buffers of `bound` until steps repeat themselves, and with the micro-batches that then fit from the
  /// beginning: the same numbers, and an event a step.
  void expect_repeated_steps(RunSettings whole, RunSettings small, double bound, int ranks) const {
    const auto expected = metrics(small, 0), found = metrics(whole, bound);
    ASSERT_EQ(found.size(), 3u);
    ASSERT_EQ(expected.size(), 3u);
    for (std::size_t i = 0; i < 3; ++i)
      for (const char* figure : {"loss", "auxiliary_loss", "grad_norm", "expert_load"})
        EXPECT_EQ(found[i][figure], expected[i][figure]) << figure << " of step " << i + 1;
    EXPECT_NEAR(found[2]["validation_loss"].get<double>(), expected[2]["validation_loss"].get<double>(), 1e-6);
    const auto events = overflows(whole.name);
    ASSERT_EQ(events.size(), 3u);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(events[i]["step"], i + 1);
      EXPECT_EQ(events[i]["rows"], fmt::format("{}", 4 * length * ranks));
      EXPECT_EQ(events[i]["most_rows"], fmt::format("{}", std::llround(bound * 4 * length)));
      EXPECT_EQ(events[i]["micro_batch"], fmt::format("{}", small.micro_batch));
    }
  }

  /// The same with single sequences, which are carried in rounds: the same numbers but for rounding.
  void expect_rounds(RunSettings free, RunSettings bounded, int ranks, double loss_bound, double norm_bound) const {
    const auto expected = metrics(free, 0), found = metrics(bounded, 1.25);
    ASSERT_EQ(found.size(), 3u);
    ASSERT_EQ(expected.size(), 3u);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_NEAR(found[i]["loss"].get<double>() / expected[i]["loss"].get<double>(), 1, loss_bound) << i;
      EXPECT_NEAR(found[i]["grad_norm"].get<double>() / expected[i]["grad_norm"].get<double>(), 1, norm_bound) << i;
      EXPECT_EQ(found[i]["expert_load"], expected[i]["expert_load"]);
    }
    const auto events = overflows(bounded.name);
    ASSERT_EQ(events.size(), 3u);
    EXPECT_EQ(events[0]["rows"], fmt::format("{}", length * ranks));
    EXPECT_EQ(events[0]["most_rows"], "30");  // 1.25 x 24
    EXPECT_EQ(events[0]["micro_batch"], "1");
  }

  /// Experts' ranks.
  int group(const Case& one) const { return size / one.pipeline; }

  int size = 1;
  GoldenCase golden{"qwen3_moe"};
  ScratchFolder scratch{"receive-bound"};
};

}  // namespace moesaic
