// The arithmetic of plans, on the reference model: hidden 64, 4 query and 2 key heads of 16, 8 experts of 32, 2 a token, 3
// layers, vocabulary 256. Its units hold 16,384 elements (embedding), 12,960 and 49,152 (a block and its experts) and
// 16,448 (head).
#include "moesaic/train/run_plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "moesaic/kernels/attention_workspace.hpp"
#include "moesaic/parallel/expert_parallel.hpp"

namespace moesaic {
namespace {

constexpr std::int64_t length = 32, hidden = 64, layers = 3;

/// Bytes that an arena may add to the eight units' buffers: it hands out pieces of 256.
constexpr std::int64_t rounding = 8 * 256;

/// One sequence a micro-batch, on the CPU: four bytes an element.
RunSettings small_run(std::int64_t sequences) {
  RunSettings settings;
  settings.config = MOESAIC_GOLDEN "/qwen3_moe/config.json";
  settings.device = DeviceChoice::cpu;
  settings.data.sequence = length;
  settings.steps = 1;
  settings.global_batch = sequences;
  return settings;
}

Rehearsal rehearsed(const RunSettings& settings, int ranks, int rank = 0) {
  return rehearse(settings, Decomposition(settings, ranks), rank, planned_device(settings));
}

std::int64_t difference(std::int64_t a, std::int64_t b) { return a > b ? a - b : b - a; }

std::int64_t most(const Rehearsal& rehearsal, Label label) { return rehearsal.peaks[static_cast<std::size_t>(label)]; }

TEST(Plan, StateTakesSixteenBytesAParameter) {
  const RunSettings settings = small_run(1);
  const RunPlan plan(settings, 1);
  const Rehearsal& rank = plan.rehearsal;
  const std::int64_t state = rank.of(Label::parameters) + rank.of(Label::gradients) + rank.of(Label::moments);
  EXPECT_GE(state, 16 * plan.parts.spec.total_parameters());
  EXPECT_LT(state, 16 * plan.parts.spec.total_parameters() + 4 * rounding);
  RunSettings halves = settings;
  halves.optimizer.moments = DType::bf16;
  EXPECT_LE(difference(2 * rehearsed(halves, 1).of(Label::moments), rank.of(Label::moments)), 4 * rounding);
}

/// On four shards a block's unit has 4 x 3,248 elements. With W of all units: a gather for forward and one for backward, but
/// of embedding and head only one; and a reduction. Of each, three quarters are sent.
TEST(Plan, ShardsGatherAndReduce) {
  constexpr std::int64_t m = 10, ends = 16384 + 16448, whole = ends + layers * (4 * 3248 + 49152);
  RunSettings settings = small_run(4 * m);
  EXPECT_EQ(exchange_of(rehearsed(settings, 4)).shard, 3 * m * (2 * whole - ends) + 3 * m * whole);
  settings.reduce_every_micro_batch = false;
  EXPECT_EQ(exchange_of(rehearsed(settings, 4)).shard, 3 * m * (2 * whole - ends) + 3 * whole);
}

TEST(Plan, ReplicasSumSlicesOnce) {
  RunSettings settings = small_run(20);
  settings.grid.replicate = 2;
  EXPECT_EQ(exchange_of(rehearsed(settings, 2)).replicate, 4 * (16384 + 16448 + layers * (12960 + 49152)));
}

/// 32 tokens that go to two experts each leave a rank of two with 24 copies; five counts of 8 bytes go before them.
TEST(Plan, ExpertsExchangeTokens) {
  constexpr std::int64_t m = 10, c = 24, row = 4 * hidden, top_k = 2;
  EXPECT_EQ(even_dispatch_rows(length, top_k, 2), c);
  RunSettings settings = small_run(2 * m);
  settings.grid.expert = 2;
  const std::int64_t dispatch = c * (row + 8 * top_k) + 40, back = c * row, gradients = c * (row + 4 * top_k);
  EXPECT_EQ(exchange_of(rehearsed(settings, 2)).expert, m * layers * (dispatch + 2 * back + gradients));
  settings.recompute = Recompute::selective;
  EXPECT_EQ(exchange_of(rehearsed(settings, 2)).expert, m * layers * (2 * dispatch + 2 * back + gradients));
}

/// k elements of keys and values: (C - 1) k (2 e + a), and the counts and sums of eight experts' statistics.
TEST(Plan, ContextRanksExchangeKeysAndValues) {
  constexpr std::int64_t m = 10, k = length / 2 * 2 * 2 * 16;
  RunSettings settings = small_run(m);
  settings.grid.context = 2;
  for (const ContextExchange exchange : {ContextExchange::ring, ContextExchange::gather}) {
    settings.context_exchange = exchange;
    EXPECT_EQ(exchange_of(rehearsed(settings, 2)).context, m * layers * (k * 12 + 8 * (8 + 4)));
  }
}

/// 2 m v n H e, where the first virtual stage sends nothing up and the last nothing down.
TEST(Plan, StagesSendTheRowsAtTheirBorders) {
  constexpr std::int64_t m = 50, one_way = m * length * hidden * 4;
  RunSettings settings = small_run(m);
  settings.grid.pipeline = 3;
  EXPECT_EQ(exchange_of(rehearsed(settings, 3, 0)).pipeline, one_way);
  EXPECT_EQ(exchange_of(rehearsed(settings, 3, 1)).pipeline, 2 * one_way);
  settings.grid.pipeline = 2;
  settings.chunks = 2;
  settings.schedule = ScheduleKind::interleaved;
  EXPECT_EQ(exchange_of(rehearsed(settings, 2, 1)).pipeline, 3 * one_way);
}

/// From the second micro-batch on each that is held adds the same, which a step of two shows.
TEST(Plan, StagesHoldTheActivationsOfTheirSchedule) {
  const auto activations = [](ScheduleKind kind, int stage, std::int64_t sequences) {
    RunSettings settings = small_run(sequences);
    settings.grid.pipeline = 3;
    settings.schedule = kind;
    return most(rehearsed(settings, 3, stage), Label::activations);
  };
  for (const ScheduleKind kind : {ScheduleKind::one_f_one_b, ScheduleKind::zero_bubble})
    for (const int stage : {0, 1}) {
      SCOPED_TRACE(stage);
      const std::int64_t one = activations(kind, 0, 2) - activations(kind, 0, 1);
      const std::int64_t held = peak_activations_of(kind, 3, stage, 1, 40), row = length * hidden * 4;
      EXPECT_LE(difference(activations(kind, stage, 40), activations(kind, stage, 1) + (held - 1) * one), 2 * row);
    }
}

TEST(Plan, OnAGpuWeightsTravelAndStayAsHalves) {
  RunSettings settings = small_run(8);
  const Rehearsal cpu = rehearsed(settings, 2);
  settings.device = DeviceChoice::automatic;
  const Rehearsal gpu = rehearsed(settings, 2);
  EXPECT_LE(difference(most(cpu, Label::gathered), 2 * most(gpu, Label::gathered)), 2 * rounding);
  EXPECT_EQ(most(cpu, Label::unreduced_gradients), most(gpu, Label::unreduced_gradients));
  EXPECT_LT(most(gpu, Label::activations), most(cpu, Label::activations));
  EXPECT_EQ(most(gpu, Label::batch) - most(cpu, Label::batch), 4 * 3 * length * 4);  // four sequences, their tokens
  EXPECT_GE(most(gpu, Label::workspace), attention_backward_workspace({1, length, length, 4, 2, 16, 16}, true));
  settings.precision = Precision::fp32;
  EXPECT_EQ(most(rehearsed(settings, 2), Label::gathered), most(cpu, Label::gathered));
}

TEST(Plan, FindsTheFullestStage) {
  RunSettings settings = small_run(40);
  settings.grid.pipeline = 5;  // a block a stage
  const Decomposition parts(settings, 5);
  const FullestRank found = fullest_rank(settings, parts);
  for (int stage = 0; stage < 5; ++stage)
    EXPECT_LE(rehearsed(settings, 5, stage).reach, found.rehearsal.reach) << stage;
}

TEST(Plan, OfManyMicroBatchesTakesAsMuchMemoryAsOfSome) {
  RunSettings settings = small_run(1000000);
  const Rehearsal many = rehearsed(settings, 1);
  settings.global_batch = 4;
  EXPECT_EQ(many.of(Label::activations), rehearsed(settings, 1).of(Label::activations));
}

TEST(PlanChanges, NameWhatMakesARunFit) {
  RunSettings settings = small_run(8);
  settings.micro_batch = 4;
  RunSettings recomputed = settings;
  recomputed.recompute = Recompute::block;
  const std::int64_t plain = rehearsed(settings, 1).reach, with_block = rehearsed(recomputed, 1).reach;
  ASSERT_LT(with_block, plain);

  settings.device_memory = plain;
  EXPECT_TRUE(RunPlan(settings, 1).fits());
  settings.device_memory = with_block;
  EXPECT_FALSE(RunPlan(settings, 1).fits());
  const std::vector<std::string> changes = changes_that_fit(settings, 1);
  EXPECT_NE(std::ranges::find(changes, "train.recompute=block"), changes.end());
}

TEST(PlanChanges, JoinThemWhereNoneIsEnough) {
  RunSettings settings = small_run(64);
  settings.data.sequence = 512;  // activations count for more than what shards divide
  settings.micro_batch = 4;
  RunSettings all = settings;
  all.recompute = Recompute::block;
  all.micro_batch = 1;
  all.optimizer.moments = DType::bf16;
  settings.device_memory = rehearsed(all, 1).reach;
  EXPECT_EQ(changes_that_fit(settings, 1),
            (std::vector<std::string>{"train.recompute=block train.micro_batch=1 optimizer.moments=bf16"}));
  settings.device_memory = 1;
  EXPECT_TRUE(changes_that_fit(settings, 1).empty());
}

/// Two stages of a rank each have no gradients of whole blocks that wait for other shards.
TEST(PlanChanges, CutTheModelIntoMoreStages) {
  RunSettings settings = small_run(2);
  settings.reduce_every_micro_batch = false;
  RunSettings staged = settings;
  staged.grid.pipeline = 2;
  settings.device_memory = fullest_rank(staged, Decomposition(staged, 2)).rehearsal.reach;
  ASSERT_LT(settings.device_memory, rehearsed(settings, 2).reach);
  const auto names = [](const RunSettings& run, const std::string& change) {
    const std::vector<std::string> changes = changes_that_fit(run, 2);
    return std::ranges::find(changes, change) != changes.end();
  };
  EXPECT_TRUE(names(settings, "grid.pipeline=2"));
  settings.grid.shard = 2;
  EXPECT_TRUE(names(settings, "grid.pipeline=2 grid.shard=1"));
  settings.device_memory = 1;
  EXPECT_FALSE(names(settings, "grid.pipeline=2 grid.shard=1"));
}

TEST(Plan, KnowsWhatFullReceiveBuffersTake) {
  RunSettings settings = small_run(8);
  settings.grid.expert = 2;
  EXPECT_FALSE(RunPlan(settings, 2).at_bound.has_value()) << "on the CPU buffers grow";
  settings.device = DeviceChoice::automatic;
  settings.receive_bound = 2;
  const RunPlan plan(settings, 2);
  ASSERT_GT(plan.at_bound->reach, plan.rehearsal.reach);
  settings.device_memory = plan.rehearsal.reach;
  EXPECT_TRUE(RunPlan(settings, 2).fits());
  EXPECT_FALSE(RunPlan(settings, 2).fits_at_bound());
  settings.device_memory = plan.at_bound->reach;
  EXPECT_TRUE(RunPlan(settings, 2).fits_at_bound());
}

TEST(Plan, RefusesWhatNoHostCanAddress) {
  RunSettings settings = small_run(1 << 24);
  settings.data.sequence = 512;
  settings.micro_batch = std::int64_t{1} << 40;
  EXPECT_THROW(RunPlan(settings, 1), InputError);
}

}  // namespace
}  // namespace moesaic
