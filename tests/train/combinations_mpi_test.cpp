// Ranks: 1 2 3 4 6 8 12 16
// All cuts compose: a table of grids, schedules, recomputation and batches, each held against the reference curve (or, for batches and
// models that have none, against plain sharding on the same ranks). Schedules and recomputation change no bit.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "support/golden_run.hpp"

namespace moesaic {
namespace {

constexpr ScheduleKind f1b = ScheduleKind::one_f_one_b, inter = ScheduleKind::interleaved,
                       zero = ScheduleKind::zero_bubble;
constexpr ContextExchange ring = ContextExchange::ring, gather = ContextExchange::gather;

enum Reduce : std::uint8_t { micro, step };

constexpr Recompute block = Recompute::block, selective = Recompute::selective;

/// golden: the reference model, 3 layers (5 blocks) and 8 experts. deep: 7 layers (9 blocks), 6 experts, a tied head, random
/// weights.
enum ModelKind : std::uint8_t { golden, deep };

/// What ranks leave to the other axes is shards.
struct Combination {
  int ranks = 1, pipeline = 1, replicate = 1, context = 1, expert = 1;
  ScheduleKind schedule = f1b;
  int chunks = 1;
  int batch = 2, micro_batch = 1;  ///< sequences; the reference curve is of two
  Reduce reduce = micro;
  ContextExchange exchange = ring;
  ModelKind model = golden;
  const char* layout = "";
  Recompute recompute = Recompute::none;

  /// All but the schedule and recomputation.
  std::string axes() const {
    return fmt::format(
        "{} ranks: pipeline {} replicate {} context {} {} expert {}, batch {} micro-batch {} reduce {} {}{}", ranks,
        pipeline, replicate, context, exchange == ring ? "ring" : "gather", expert, batch, micro_batch,
        reduce == micro ? "micro_batch" : "step", model == golden ? "golden" : "deep", layout);
  }
  std::string name() const {
    return fmt::format("{} {} chunks {} recompute {}", axes(), name_of(schedule), chunks, static_cast<int>(recompute));
  }
};

// Odd ones on purpose: 3, 6 and 12 ranks, stages that do not divide the layers, stages of one block, fewer micro-batches
// than stages, ranks without sequences (batch 2 or 5 on more data ranks), last micro-batches that are short.
constexpr Combination table[] = {
    // ranks, pipeline, replicate, context, expert, schedule, chunks, batch, micro-batch, reduce, exchange, model, layout,
    // recompute
    {1, 1, 1, 1, 1, f1b, 1, 2, 2, step},
    {1, 1, 1, 1, 1, zero, 1, 2, 1, micro},
    {1, 1, 1, 1, 1, f1b, 1, 2, 1, micro, ring, golden, "", selective},
    {1, 1, 1, 1, 1, inter, 2, 5, 2, step},
    {1, 1, 1, 1, 1, inter, 3, 5, 1, micro, ring, deep},

    {2, 1, 1, 1, 2, f1b, 1, 5, 2, step},
    {2, 1, 2, 1, 1, f1b, 1, 5, 1, step},
    {2, 1, 1, 2, 1, f1b, 1, 2, 2, micro, ring},
    {2, 1, 1, 2, 2, zero, 1, 5, 3, step, gather},
    {2, 1, 1, 2, 2, f1b, 1, 5, 3, step, gather, golden, "", block},
    {2, 2, 1, 1, 1, f1b, 1, 5, 2, micro},
    {2, 2, 1, 1, 1, zero, 1, 5, 2, micro, ring, golden, "", block},
    {2, 2, 1, 1, 1, inter, 2, 5, 2, micro, ring, golden, "", selective},
    {2, 2, 1, 1, 1, zero, 1, 2, 2, step},
    {2, 2, 1, 1, 1, f1b, 1, 5, 1, step, ring, deep},
    {2, 2, 1, 1, 1, inter, 4, 5, 1, step, ring, deep, "", block},

    {3, 1, 3, 1, 1, f1b, 1, 2, 1, step},
    {3, 1, 1, 1, 1, f1b, 1, 7, 2, step},
    {3, 1, 1, 1, 3, f1b, 1, 5, 1, micro, ring, deep},
    {3, 1, 1, 1, 3, f1b, 1, 5, 1, micro, ring, deep, "", selective},
    {3, 3, 1, 1, 1, f1b, 1, 2, 1, micro},
    {3, 3, 1, 1, 1, zero, 1, 2, 1, micro, ring, golden, "", selective},
    {3, 3, 1, 1, 1, f1b, 1, 5, 1, step, ring, golden, "1,1,3"},
    {3, 3, 1, 1, 1, zero, 1, 5, 1, step, ring, golden, "1,1,3", block},
    {3, 3, 1, 1, 1, f1b, 1, 5, 1, micro, ring, deep},
    {3, 3, 1, 1, 1, zero, 1, 5, 1, micro, ring, deep, "", selective},
    {3, 3, 1, 1, 1, inter, 3, 5, 1, micro, ring, deep, "", block},

    {4, 1, 2, 2, 4, f1b, 1, 5, 2, micro, gather},
    {4, 1, 2, 2, 4, f1b, 1, 5, 2, micro, gather, golden, "", block},
    {4, 1, 2, 2, 2, f1b, 1, 2, 1, step},
    {4, 1, 1, 4, 4, f1b, 1, 2, 1, micro},
    {4, 2, 1, 1, 2, f1b, 1, 5, 1, micro},
    {4, 2, 1, 1, 2, zero, 1, 5, 1, micro, ring, golden, "", selective},
    {4, 2, 1, 1, 2, inter, 2, 5, 1, micro, ring, golden, "", block},
    {4, 2, 1, 2, 1, f1b, 1, 2, 1, step},
    {4, 2, 1, 2, 1, zero, 1, 2, 1, step, ring, golden, "", selective},
    {4, 2, 1, 2, 2, inter, 2, 2, 1, micro, gather},
    {4, 2, 2, 1, 2, f1b, 1, 7, 2, step},
    {4, 2, 2, 1, 2, zero, 1, 7, 2, step, ring, golden, "", block},
    {4, 2, 1, 1, 2, f1b, 1, 5, 1, micro, ring, golden, "1,4"},
    {4, 2, 1, 1, 2, zero, 1, 5, 1, micro, ring, golden, "1,4", selective},
    {4, 4, 1, 1, 1, f1b, 1, 2, 1, micro},
    {4, 4, 1, 1, 1, zero, 1, 2, 1, micro, ring, golden, "", block},
    {4, 4, 1, 1, 1, zero, 1, 5, 1, step, ring, deep},
    {4, 4, 1, 1, 1, inter, 2, 5, 1, step, ring, deep, "", selective},

    {6, 1, 3, 1, 2, f1b, 1, 5, 1, step},
    {6, 1, 1, 2, 2, f1b, 1, 5, 1, micro, gather},
    {6, 1, 1, 1, 6, f1b, 1, 5, 1, micro, ring, deep},
    {6, 2, 1, 1, 1, f1b, 1, 7, 1, micro},
    {6, 2, 1, 1, 1, inter, 2, 7, 1, micro, ring, golden, "", block},
    {6, 3, 1, 1, 2, f1b, 1, 5, 1, micro},
    {6, 3, 1, 1, 2, zero, 1, 5, 1, micro, ring, golden, "", selective},
    {6, 3, 1, 2, 1, f1b, 1, 2, 1, micro},
    {6, 3, 1, 2, 1, zero, 1, 2, 1, micro, ring, golden, "", block},
    {6, 3, 2, 1, 2, zero, 1, 7, 2, step},
    {6, 3, 1, 2, 2, zero, 1, 5, 1, micro, gather, golden, "1,2,2"},
    {6, 3, 1, 1, 2, f1b, 1, 7, 1, micro, ring, deep},
    {6, 3, 1, 1, 2, inter, 3, 7, 1, micro, ring, deep, "", selective},
    {6, 6, 1, 1, 1, zero, 1, 5, 2, micro, ring, deep},

    {8, 1, 2, 2, 8, f1b, 1, 2, 1, micro},
    {8, 1, 2, 1, 4, f1b, 1, 5, 1, step},
    {8, 1, 2, 1, 4, f1b, 1, 5, 1, step, ring, golden, "", selective},
    {8, 2, 1, 2, 4, f1b, 1, 5, 1, micro},
    {8, 2, 1, 2, 4, zero, 1, 5, 1, micro, ring, golden, "", block},
    {8, 2, 1, 2, 4, inter, 2, 5, 1, micro, ring, golden, "", selective},
    {8, 2, 2, 1, 2, zero, 1, 5, 1, step},
    {8, 2, 2, 2, 4, f1b, 1, 2, 1, step, gather},
    {8, 4, 1, 1, 2, f1b, 1, 5, 1, micro},
    {8, 4, 1, 1, 2, zero, 1, 5, 1, micro, ring, golden, "", block},
    {8, 4, 1, 2, 2, f1b, 1, 2, 1, step, gather},
    {8, 4, 1, 1, 2, zero, 1, 5, 1, micro, ring, deep},
    {8, 4, 1, 1, 2, inter, 2, 5, 1, micro, ring, deep, "", selective},

    {12, 1, 3, 2, 4, f1b, 1, 5, 1, micro},
    {12, 2, 1, 2, 2, inter, 2, 5, 1, micro},
    {12, 3, 1, 2, 4, f1b, 1, 5, 1, micro},
    {12, 3, 1, 2, 4, zero, 1, 5, 1, micro, ring, golden, "", block},
    {12, 3, 2, 1, 2, f1b, 1, 7, 1, step},
    {12, 4, 1, 1, 1, zero, 1, 7, 1, micro},
    {12, 4, 1, 1, 3, inter, 2, 7, 1, micro, ring, deep},

    {16, 1, 1, 1, 8, f1b, 1, 2, 1, micro},
    {16, 2, 1, 4, 8, f1b, 1, 2, 1, micro, gather},
    {16, 2, 2, 2, 8, zero, 1, 5, 1, micro},
    {16, 2, 2, 2, 8, inter, 2, 5, 1, micro, ring, golden, "", selective},
    {16, 4, 1, 2, 4, f1b, 1, 5, 1, micro},
    {16, 4, 1, 2, 4, zero, 1, 5, 1, micro, ring, golden, "", block},
    {16, 4, 2, 2, 2, f1b, 1, 2, 1, step},
    {16, 4, 1, 2, 2, inter, 2, 5, 1, micro, ring, deep},
};
static_assert(std::size(table) >= 60);

/// All of the reference curve; of other batches as many steps as its 40 rows allow.
constexpr std::int64_t steps_of(int batch) { return batch == 2 ? 20 : 5; }

class Combinations : public ::testing::Test {
 protected:
  void SetUp() override {
    MPI_Comm_size(MPI_COMM_WORLD, &world_size);
    write_golden_rows(reference, scratch.path() / "rows.h5");
    write_deep_config();
  }

  void write_deep_config() const {
    if (ScratchFolder::first()) {
      nlohmann::json config = nlohmann::json::parse(std::ifstream(reference.config()));
      config.update({{"num_hidden_layers", 7}, {"num_local_experts", 6}, {"tie_word_embeddings", true}});
      std::ofstream(deep_config()) << config;
    }
    MPI_Barrier(MPI_COMM_WORLD);
  }
  std::filesystem::path deep_config() const { return scratch.path() / "deep.json"; }

  RunSettings settings(ModelKind model, int batch) {
    RunSettings run =
        golden_settings(reference, scratch.path() / "rows.h5", scratch.path() / fmt::format("run{}", directories++));
    if (model == deep) {
      run.config = deep_config();
      run.init = "random";
    }
    run.steps = steps_of(batch);
    run.global_batch = batch;
    return run;
  }

  /// A run's figures, one a step.
  struct Curve {
    std::vector<double> loss, norm;
    friend bool operator==(const Curve&, const Curve&) = default;
  };

  static Curve curve_of(const std::vector<nlohmann::json>& metrics) {
    Curve curve;
    for (const auto& line : metrics) {
      curve.loss.push_back(line["loss"]);
      curve.norm.push_back(line["grad_norm"]);
    }
    return curve;
  }

  Curve trained(const Combination& combination) {
    RunSettings run = settings(combination.model, combination.batch);
    run.grid = {.pipeline = combination.pipeline,
                .replicate = combination.replicate,
                .context = combination.context,
                .expert = combination.expert};
    run.schedule = combination.schedule;
    run.chunks = combination.chunks;
    run.layout = combination.layout;
    run.context_exchange = combination.exchange;
    run.micro_batch = combination.micro_batch;
    run.reduce_every_micro_batch = combination.reduce == micro;
    run.recompute = combination.recompute;
    return curve_of(trained_metrics(run));
  }

  /// What the combination must come near.
  Curve expected(const Combination& combination) {
    if (combination.model == golden && combination.batch == 2)
      return {reference.numbers("train.loss"), reference.numbers("train.grad_norm")};
    const auto key = std::pair(combination.model, combination.batch);
    if (!plain.contains(key)) plain[key] = curve_of(trained_metrics(settings(combination.model, combination.batch)));
    return plain[key];
  }

  static void expect_near(const Curve& found, const Curve& wanted, int batch) {
    ASSERT_EQ(std::ssize(found.loss), steps_of(batch));
    ASSERT_EQ(std::ssize(wanted.loss), steps_of(batch));
    for (std::size_t i = 0; i < found.loss.size(); ++i) {
      EXPECT_LE(std::abs(found.loss[i] / wanted.loss[i] - 1), 5e-6) << "step " << i + 1;
      EXPECT_LE(std::abs(found.norm[i] / wanted.norm[i] - 1), 5e-5) << "step " << i + 1;
    }
  }

  int world_size = 1, directories = 0;
  GoldenCase reference{"qwen3_moe"};
  ScratchFolder scratch{"combinations"};
  std::map<std::pair<ModelKind, int>, Curve> plain;  ///< by plain sharding, of model and batch
};

TEST_F(Combinations, KeepTheCurveAndNeitherSchedulesNorRecomputationChangeABit) {
  std::map<std::string, Curve> of_axes;
  for (const Combination& combination : table) {
    if (combination.ranks != world_size) continue;
    SCOPED_TRACE(combination.name());
    const Curve found = trained(combination);
    expect_near(found, expected(combination), combination.batch);
    const auto [first, is_new] = of_axes.emplace(combination.axes(), found);
    EXPECT_TRUE(found == first->second) << "another schedule or recomputation gave other bits";
  }
  EXPECT_FALSE(of_axes.empty()) << "no combination for " << world_size << " ranks";
}

}  // namespace
}  // namespace moesaic
