// Ranks: 1 2 3 4 6
// Training with multi-token prediction, against a reference of its own (tests/golden/multi_token_prediction), on grids of every
// kind: 20 steps, packed documents, the same bits where they must be, and restarts.
#include <fmt/format.h>

#include <algorithm>

#include "support/golden_run.hpp"
#include "support/ways.hpp"

namespace moesaic {
namespace {

constexpr double loss_bound = 5e-6, norm_bound = 5e-5;

int world_size() {
  int size = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

constexpr Way prediction_ways[] = {
    {"plain", 1, {}},
    {"selective", 1, {}, {}, ring, Recompute::selective},
    {"block", 1, {}, {}, ring, Recompute::block},
    {"shard2", 2, {}},
    {"expert2", 2, {.expert = 2}},
    {"replicate2", 2, {.replicate = 2}, {}, ring, Recompute::none, false},
    {"pipeline2", 2, {.pipeline = 2}},
    {"pipeline2zero", 2, {.pipeline = 2}, zero_bubble, ring, Recompute::selective},
    {"pipeline2interleaved", 2, {.pipeline = 2}, interleaved},
    {"context2ring", 2, {.context = 2}},
    {"context2gather", 2, {.context = 2}, {}, gather, Recompute::block},
    {"shard3", 3, {}, {}, ring, Recompute::selective},
    {"pipeline3", 3, {.pipeline = 3}, zero_bubble},
    {"expert4", 4, {.expert = 4}},
    {"context4", 4, {.context = 4}, {}, gather},
    {"pipeline4", 4, {.pipeline = 4}, zero_bubble},
    {"pipeline2shard2", 4, {.pipeline = 2}, zero_bubble, ring, Recompute::none, false},
    {"pipeline2expert2", 4, {.pipeline = 2, .expert = 2}, zero_bubble},
    {"context2expert2", 4, {.context = 2, .expert = 2}},
    {"all", 4, {.pipeline = 2, .context = 2, .expert = 2}, zero_bubble, ring, Recompute::selective},
    {"pipeline2replicate2", 4, {.pipeline = 2, .replicate = 2}},
    {"pipeline3expert2", 6, {.pipeline = 3, .expert = 2}, zero_bubble, ring, Recompute::selective},
    {"context2expert3", 6, {.pipeline = 1, .context = 2, .expert = 2}, {}, gather},
};

class MultiTokenPrediction : public ::testing::Test {
 protected:
  void SetUp() override { write_golden_rows(golden, rows()); }
  std::filesystem::path rows() const { return scratch.path() / "rows.h5"; }

  RunSettings settings(const std::string& name) const {
    RunSettings run = golden_settings(golden, rows(), scratch.path() / name);
    run.overrides.prediction = true;
    return run;
  }
  RunSettings settings(const Way& way) const {
    RunSettings run = settings(way.name);
    go(way, run);
    return run;
  }

  void expect_near(const nlohmann::json& step, const char* key, double expected, double bound) const {
    EXPECT_LE(std::abs(step.at(key).get<double>() / expected - 1), bound) << key << " of step " << step["step"];
  }
  void expect_curve(const std::vector<nlohmann::json>& metrics) const {
    const auto loss = golden.numbers("train.loss"), prediction = golden.numbers("train.prediction_loss"),
               norm = golden.numbers("train.grad_norm");
    ASSERT_EQ(metrics.size(), loss.size());
    for (std::size_t i = 0; i < loss.size(); ++i) {
      expect_near(metrics[i], "loss", loss[i], loss_bound);
      expect_near(metrics[i], "prediction_loss", prediction[i], loss_bound);
      expect_near(metrics[i], "grad_norm", norm[i], norm_bound);
    }
  }

  GoldenCase golden{"multi_token_prediction"};
  ScratchFolder scratch{"multi-token-prediction"};
};

void expect_same_bits(const std::vector<nlohmann::json>& first, const std::vector<nlohmann::json>& second) {
  ASSERT_FALSE(first.empty());
  ASSERT_EQ(first.size(), second.size());
  for (std::size_t i = 0; i < first.size(); ++i)
    for (const char* key : {"loss", "prediction_loss", "grad_norm", "auxiliary_loss", "expert_load"})
      EXPECT_EQ(first[i][key].get<double>(), second[i][key].get<double>()) << key << " at step " << i + 1;
}

TEST_F(MultiTokenPrediction, IsTheReferenceOnEveryGrid) {
  for (const Way& way : prediction_ways) {
    if (way.ranks != world_size()) continue;
    SCOPED_TRACE(way.name);
    expect_curve(trained_metrics(settings(way)));
  }
}

/// Documents that end inside rows and inside the blocks of a context cut, and labels that are not marked: neither the
/// labels nor attention cross a border.
TEST_F(MultiTokenPrediction, KeepsToDocuments) {
  const std::filesystem::path packed = scratch.path() / "packed.h5";
  std::vector<std::int32_t> first = golden.tokens("train.tokens");
  const auto documents = golden.tokens("packed.document"), marked = golden.tokens("packed.loss_mask");
  first.resize(documents.size());
  if (ScratchFolder::first())
    write_rows_file(packed, {.columns = golden.shape("packed.document")[1],
                             .tokens = first,
                             .loss_mask = {marked.begin(), marked.end()},
                             .documents = documents});
  MPI_Barrier(MPI_COMM_WORLD);
  for (const Way& way : prediction_ways) {
    if (way.ranks != world_size()) continue;
    SCOPED_TRACE(way.name);
    RunSettings run = settings(way);
    run.data.path = packed;
    run.steps = 1;
    const auto metrics = trained_metrics(run);
    ASSERT_EQ(metrics.size(), 1u);
    expect_near(metrics[0], "loss", golden.number("packed.loss"), loss_bound);
    expect_near(metrics[0], "prediction_loss", golden.number("packed.prediction.loss"), loss_bound);
    expect_near(metrics[0], "grad_norm", golden.number("packed.grad_norm"), norm_bound);
  }
}

/// Neither the schedule nor recomputation changes a bit. The first stage's
/// table and the copy of it that the last stage reads stay equal, or later steps would differ.
TEST_F(MultiTokenPrediction, SchedulesAndRecomputationAreTheSameBits) {
  std::vector<nlohmann::json> first;
  const int ranks = world_size();
  for (const ScheduleKind schedule : {ScheduleKind::one_f_one_b, zero_bubble}) {
    for (const Recompute recompute : {Recompute::none, Recompute::block, Recompute::selective}) {
      RunSettings run = settings(fmt::format("bits {} {}", static_cast<int>(schedule), static_cast<int>(recompute)));
      run.grid = {.pipeline = std::min(ranks, 4), .replicate = ranks / std::min(ranks, 4)};
      if (ranks == 6) run.grid = {.pipeline = 3};
      run.schedule = schedule;
      run.recompute = recompute;
      run.steps = 6;
      run.balance = Balance::auxiliary;
      run.auxiliary_coefficient = 0.1;
      const auto metrics = trained_metrics(run);
      if (first.empty()) first = metrics;
      expect_same_bits(first, metrics);
    }
  }
}

/// Balancing moves the correction biases of the prediction's block too; the metrics count its experts.
TEST_F(MultiTokenPrediction, BalancesItsExperts) {
  std::vector<nlohmann::json> whole;
  for (const int expert : {1, 2, 4}) {
    if (world_size() % expert != 0) continue;
    RunSettings run = settings(fmt::format("balance {}", expert));
    run.grid.expert = expert;
    run.balance = Balance::bias;
    run.bias_rate = 0.01;
    run.steps = 5;
    const auto metrics = trained_metrics(run);
    ASSERT_EQ(metrics.size(), 5u);
    if (whole.empty()) whole = metrics;
    EXPECT_GT(std::abs(metrics[4]["prediction_loss"].get<double>() / golden.numbers("train.prediction_loss")[4] - 1),
              loss_bound);
    for (std::size_t i = 0; i < 5; ++i)
      for (const char* key : {"loss", "prediction_loss", "expert_load"})
        EXPECT_NEAR(metrics[i][key].get<double>() / whole[i][key].get<double>(), 1, loss_bound) << key;
  }
}

/// Saved after 8 steps on one grid, continued on another.
TEST_F(MultiTokenPrediction, RestartsOnAnotherGrid) {
  const int ranks = world_size();
  RunSettings run = settings("restart");
  run.steps = 8;
  run.grid = {.pipeline = ranks == 1 ? 1 : ranks == 3 ? 3 : 2};
  run.schedule = zero_bubble;
  ASSERT_EQ(trained_metrics(run).size(), 8u);
  run.steps = golden.shape("train.tokens")[0];
  run.grid = {.expert = ranks % 2 == 0 ? 2 : 1};
  run.prediction_weight = 0.3;
  expect_curve(trained_metrics(run));
}

/// On the grid that wrote the checkpoint the losses go on with the same bits.
TEST_F(MultiTokenPrediction, RestartsExactly) {
  const GridRequest grid{.pipeline = world_size() % 2 == 0 ? 2 : 1};
  RunSettings straight = settings("straight"), stopped = settings("stopped");
  straight.grid = stopped.grid = grid;
  straight.steps = 7;
  stopped.steps = 3;
  const auto expected = trained_metrics(straight);
  trained_metrics(stopped);
  stopped.steps = 7;
  expect_same_bits(expected, trained_metrics(stopped));
}

/// The weight is the loss's share of the gradient; without it the main model is trained as if there were no more.
TEST_F(MultiTokenPrediction, WithoutWeightTheMainModelIsTrainedAlone) {
  RunSettings run = settings("weightless"), alone = settings("alone");
  run.prediction_weight = 0;
  alone.overrides.prediction = false;
  run.steps = alone.steps = 4;
  run.optimizer.clip = alone.optimizer.clip = 0;
  const auto metrics = trained_metrics(run), expected = trained_metrics(alone);
  ASSERT_EQ(metrics.size(), 4u);
  ASSERT_EQ(expected.size(), 4u);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(metrics[i]["loss"].get<double>(), expected[i]["loss"].get<double>());
    EXPECT_FALSE(expected[i].contains("prediction_loss"));
  }
}

/// Validation is of the main model alone.
TEST_F(MultiTokenPrediction, ValidatesTheMainModel) {
  RunSettings run = settings("validated"), alone = settings("validated-alone");
  run.prediction_weight = 0;
  alone.overrides.prediction = false;
  for (RunSettings* each : {&run, &alone}) {
    each->steps = 1;
    each->optimizer.clip = 0;
    each->data.validation = rows();
  }
  EXPECT_EQ(trained_metrics(run).at(0)["validation_loss"].get<double>(),
            trained_metrics(alone).at(0)["validation_loss"].get<double>());
}

}  // namespace
}  // namespace moesaic
