// Steps that are not finite: skipped by all ranks, counted, and after some in a row the run ends with the operator at fault.
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>

#include "moesaic/comm/agreement.hpp"
#include "support/golden_run.hpp"
#include "support/step_runner.hpp"

namespace moesaic {
namespace {

class SkippedStep : public ::testing::Test {
 protected:
  SkippedStep() {
    write_golden_rows(golden, scratch.path() / "rows.h5");
    settings = golden_settings(golden, scratch.path() / "rows.h5", scratch.path() / "run");
  }

  static std::vector<std::byte> bytes_of(const StepRunner& ranks) {
    std::vector<std::byte> bytes;
    for (const auto& unit : ranks.assembly.sharding.units()) {
      const View values = unit->values();
      const auto* data = static_cast<const std::byte*>(values.raw());
      bytes.insert(bytes.end(), data, data + values.bytes());
    }
    return bytes;
  }
  std::string events() const {
    std::ifstream file(scratch.path() / "run" / "events.jsonl");
    return {std::istreambuf_iterator<char>(file), {}};
  }

  GoldenCase golden{"qwen3_moe"};
  ScratchFolder scratch{"skipped-step"};
  RunSettings settings;
};

TEST_F(SkippedStep, ChangesNoWeightAndNamesWhatReadTheFault) {
  StepRunner ranks(settings);
  EXPECT_FALSE(ranks.step().skipped);
  if (ranks.assembly.communicators.world->rank() == 0)
    ranks.assembly.sharding.units().back()->values().data<float>()[3] = std::numeric_limits<float>::quiet_NaN();
  const auto before = bytes_of(ranks);
  EXPECT_TRUE(ranks.step().skipped);
  EXPECT_EQ(bytes_of(ranks), before);
  const std::string why = ranks.diagnose();
  EXPECT_NE(why.find("is the first that is not finite"), std::string::npos) << why;
  EXPECT_NE(why.find("the forward of head"), std::string::npos) << why;
  EXPECT_NE(why.find("an input was not either"), std::string::npos) << why;
}

TEST_F(SkippedStep, ThatIsFiniteWhenDoneAgainWasNoFaultOfTheData) {
  StepRunner ranks(settings);
  ranks.step();
  const std::string why = ranks.diagnose();
  EXPECT_NE(why.find("nothing but finite numbers"), std::string::npos) << why;
}

TEST_F(SkippedStep, EndsTheRunWhenThereAreTooManyInARow) {
  settings.optimizer.lr = 1e25;  // the first update makes weights that overflow
  settings.max_skipped = 2;
  std::string message;
  try {
    train(settings);
  } catch (const AgreedRunError& error) {
    message = error.what();
  }
  EXPECT_NE(message.find("2 steps in a row were not finite, the last is 3"), std::string::npos) << message;
  EXPECT_NE(message.find("its inputs were finite"), std::string::npos) << message;
  MPI_Barrier(MPI_COMM_WORLD);
  const auto metrics = read_metrics(settings.directory);
  ASSERT_EQ(metrics.size(), 3u);
  EXPECT_TRUE(metrics[2]["grad_norm"].is_null());
  EXPECT_NE(events().find(R"("event":"skipped step","step":2)"), std::string::npos) << events();
  EXPECT_NE(events().find(R"("event":"failed","step":3)"), std::string::npos) << events();
}

TEST_F(SkippedStep, IsNoEndWhenTheNextOneIsFinite) {
  settings.optimizer.lr = 1e25;
  settings.steps = 2;
  settings.max_skipped = 2;
  EXPECT_EQ(train(settings), done);
  EXPECT_TRUE(read_metrics(settings.directory).at(1)["grad_norm"].is_null());
}

}  // namespace
}  // namespace moesaic
