// Ranks: 2 3 4
// Runs in which all tokens choose one expert, beyond what its rank's receive buffers hold: steps are taken with smaller
// micro-batches, then in rounds, and come out as they would without a bound.
#include <cstring>

#include "support/receive_bound_run.hpp"
#include "support/step_runner.hpp"

namespace moesaic {
namespace {

class ReceiveBoundRun : public ReceiveBoundTest {
 protected:
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
      expect_repeated_steps(settings(one, rows_of_a_rank, name), settings(one, fits, name + "-small"), bound, ranks);
    }
  }
}

TEST_F(ReceiveBoundRun, CarriesSingleSequencesInRounds) {
  int tried = 0;
  for (const Case& one : cases()) {
    SCOPED_TRACE(fmt::format("pipeline {} recompute {} schedule {}", one.pipeline, static_cast<int>(one.recompute),
                             name_of(one.schedule)));
    const std::string name = fmt::format("{}", ++tried);
    expect_rounds(settings(one, 1, name + "-free"), settings(one, 1, name), group(one), 5e-6, 5e-5);
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
