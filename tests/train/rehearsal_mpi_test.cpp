// Ranks: 1 2 3 4
// What a rehearsal says a rank will hold is what the arena of a real step held.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "moesaic/train/rehearsal.hpp"
#include "support/golden.hpp"
#include "support/step_runner.hpp"

namespace moesaic {
namespace {

struct Case {
  int pipeline = 1, context = 1, expert = 1;
  Recompute recompute = Recompute::none;
  bool reduce_every_micro_batch = true;
  ContextExchange exchange = ContextExchange::ring;
  ScheduleKind schedule = ScheduleKind::one_f_one_b;
  const char* family = "qwen3_moe";

  int unit() const { return pipeline * std::lcm(context, expert); }
  std::string name() const {
    return fmt::format("{} pipeline {} context {} {} expert {} recompute {} reduce {} {}", family, pipeline, context,
                       exchange == ContextExchange::ring ? "ring" : "gather", expert, static_cast<int>(recompute),
                       reduce_every_micro_batch, name_of(schedule));
  }
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all{
      {.recompute = Recompute::none},
      {.recompute = Recompute::selective},
      {.recompute = Recompute::block, .reduce_every_micro_batch = false},
      {.expert = 2},
      {.expert = 4, .recompute = Recompute::selective},
      {.context = 2},
      {.context = 2, .recompute = Recompute::block, .exchange = ContextExchange::gather},
      {.pipeline = 2, .recompute = Recompute::selective},
      {.pipeline = 3, .schedule = ScheduleKind::zero_bubble},
      {.pipeline = 2, .expert = 2, .recompute = Recompute::block, .reduce_every_micro_batch = false},
      {.pipeline = 2, .context = 2},
      {.family = "deepseek_v3"},
      {.context = 2, .recompute = Recompute::selective, .family = "deepseek_v3"},
      {.recompute = Recompute::selective, .family = "gpt_oss"},
      {.context = 2, .family = "gpt_oss"},
      {.expert = 2, .recompute = Recompute::block, .family = "mixtral"},
      {.recompute = Recompute::selective, .family = "multi_token_prediction"},
      {.context = 2, .family = "multi_token_prediction"},
      {.pipeline = 2, .schedule = ScheduleKind::zero_bubble, .family = "multi_token_prediction"},
      {.pipeline = 2, .expert = 2, .family = "multi_token_prediction"},
  };
  return all;
}

RunSettings settings_of(const Case& one) {
  RunSettings settings;
  settings.config = fmt::format("{}/{}/config.json", MOESAIC_GOLDEN, one.family);
  settings.overrides.prediction = std::string(one.family) == "multi_token_prediction";
  settings.device = DeviceChoice::cpu;
  settings.data.format = DataFormat::synthetic;
  settings.data.sequence = 128;
  settings.steps = 1;
  settings.global_batch = 48;
  settings.micro_batch = 4;
  settings.balance = Balance::auxiliary;
  settings.grid = {.pipeline = one.pipeline, .context = one.context, .expert = one.expert};
  settings.schedule = one.schedule;
  settings.recompute = one.recompute;
  settings.reduce_every_micro_batch = one.reduce_every_micro_batch;
  settings.context_exchange = one.exchange;
  return settings;
}

constexpr double row_bytes = 4 * 128 * 64 * 4;  ///< of a micro-batch's activations between two blocks

std::int64_t most(const Rehearsal& rehearsal, Label label) { return rehearsal.peaks[static_cast<std::size_t>(label)]; }

double mean_over_ranks(std::int64_t value) {
  auto sum = static_cast<double>(value);
  int ranks = 1;
  MPI_Allreduce(MPI_IN_PLACE, &sum, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  return sum / ranks;
}

/// State and weights are the same byte by byte; so are activations and messages where no token is routed elsewhere and no
/// stage sends to another. All together comes within 3 %; with experts elsewhere within 5 % on the mean over ranks, since even
/// routing is only about what a router that has learned nothing gives. On top: the scratch of reference operators, some
/// matrices a thread, which is not planned; and a micro-batch's rows in each direction, which MPI may keep longer.
void expect_same(const Arena& arena, const Rehearsal& rehearsal, const Case& one) {
  for (const Label label :
       {Label::parameters, Label::gradients, Label::moments, Label::gathered, Label::unreduced_gradients})
    EXPECT_EQ(most(rehearsal, label), arena.peak(label)) << name_of(label);
  EXPECT_NEAR(static_cast<double>(most(rehearsal, Label::batch)), static_cast<double>(arena.peak(Label::batch)), 512);
  if (one.expert == 1 && one.pipeline == 1) {
    for (const Label label : {Label::activations, Label::exchange})
      EXPECT_EQ(most(rehearsal, label), arena.peak(label)) << name_of(label);
  }
  const bool routed = one.expert > 1;
  const double wanted = routed ? mean_over_ranks(arena.peak()) : static_cast<double>(arena.peak());
  const double planned = routed ? mean_over_ranks(rehearsal.peak) : static_cast<double>(rehearsal.peak);
  const auto scratch = static_cast<double>(arena.peak(Label::workspace) - most(rehearsal, Label::workspace));
  const double late = one.pipeline > 1 ? 2 * row_bytes : 0;
  EXPECT_NEAR(planned, wanted, (routed ? 0.05 : 0.03) * wanted + std::max(scratch, 0.0) + late);
  std::int64_t sum = 0;
  for (const std::int64_t bytes : rehearsal.bytes) sum += bytes;
  EXPECT_EQ(sum, rehearsal.peak);
  EXPECT_GE(rehearsal.reach, rehearsal.peak);
}

TEST(Rehearsal, HoldsWhatARealStepHolds) {
  MpiSession session;
  int tried = 0;
  for (const Case& one : cases()) {
    if (session.size() % one.unit() != 0) continue;
    SCOPED_TRACE(one.name());
    const RunSettings settings = settings_of(one);
    StepRunner real(settings);
    real.step();
    expect_same(real.assembly.arena, rehearse(settings, real.inputs, session.rank(), DeviceKind::cpu), one);
    ++tried;
  }
  EXPECT_GE(tried, 3);
}

}  // namespace
}  // namespace moesaic
