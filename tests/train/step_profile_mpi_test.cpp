// Ranks: 1 2 4
// train.profile_steps in a whole run: the timelines on disk.
#include <fmt/format.h>

#include <map>
#include <set>

#include "support/golden_run.hpp"

namespace moesaic {
namespace {

class StepProfiles : public ::testing::Test {
 protected:
  StepProfiles() {
    write_golden_rows(golden, scratch.path() / "rows.h5");
    settings = golden_settings(golden, scratch.path() / "rows.h5", scratch.path() / "run");
    settings.steps = 4;
    settings.device = DeviceChoice::cpu;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  }
  std::filesystem::path trace_file() const {
    return scratch.path() / "run" / "profile" / fmt::format("rank-{}.json", rank);
  }
  /// Complete events, those of one track in order.
  std::vector<nlohmann::json> events() const {
    std::ifstream file(trace_file());
    std::vector<nlohmann::json> complete;
    for (const auto& event : nlohmann::json::parse(file))
      if (event["ph"] == "X") complete.push_back(event);
    return complete;
  }
  static double end(const nlohmann::json& event) { return event["ts"].get<double>() + event["dur"].get<double>(); }

  GoldenCase golden{"qwen3_moe"};
  ScratchFolder scratch{"step-profile"};
  RunSettings settings;
  int rank = 0;
};

TEST_F(StepProfiles, HoldTheStepsThatWereAskedFor) {
  settings.profile_steps = {.first = 2, .count = 2, .from_start = false};
  ASSERT_EQ(train(settings), done);
  std::set<std::string> steps;
  std::map<std::string, std::map<std::string, int>> calls;  // of each step
  std::string step;
  for (const auto& event : events()) {
    if (event["cat"] == "step") steps.insert(step = event["name"]);
    if (event["cat"] == "operator") ++calls[step][event["name"]];
    EXPECT_EQ(event["pid"], rank);
  }
  EXPECT_EQ(steps, (std::set<std::string>{"step 2", "step 3"}));
  EXPECT_EQ(calls["step 2"], calls["step 3"]);
  for (const char* name : {"gemm", "attention_forward", "attention_backward", "adamw", "sum_of_squares", "fill"})
    EXPECT_GT(calls["step 2"][name], 0) << name;
}

TEST_F(StepProfiles, EventsOfATrackNestAndTellTheirPlace) {
  settings.profile_steps = {.first = 1, .count = 1, .from_start = true};
  ASSERT_EQ(train(settings), done);
  std::vector<nlohmann::json> open;
  for (const auto& event : events()) {
    constexpr double rounding = 1;  // microseconds
    while (!open.empty() && end(open.back()) <= event["ts"].get<double>() + rounding && event["cat"] != "step" &&
           end(open.back()) < end(event))
      open.pop_back();
    if (!open.empty()) {
      EXPECT_GE(event["ts"].get<double>(), open.back()["ts"].get<double>());
      EXPECT_LE(end(event), end(open.back()) + rounding);
    }
    open.push_back(event);
    if (event["name"] == "attention_forward") {
      EXPECT_EQ(event["args"]["phase"], "forward");
      EXPECT_EQ(event["args"]["block"].get<std::string>().substr(0, 7), "blocks/");
      EXPECT_EQ(event["args"]["place"].get<std::string>().substr(0, 20), "forward, micro-batch");
      EXPECT_TRUE(event["args"].contains("shape"));
    }
  }
}

TEST_F(StepProfiles, ChangeNoBit) {
  ASSERT_EQ(train(settings), done);
  const auto plain = read_metrics(settings.directory);
  settings.directory = scratch.path() / "profiled";
  settings.profile_steps = {.first = 1, .count = 3, .from_start = false};
  ASSERT_EQ(train(settings), done);
  const auto profiled = read_metrics(settings.directory);
  ASSERT_EQ(profiled.size(), plain.size());
  for (std::size_t i = 0; i < plain.size(); ++i) EXPECT_EQ(profiled[i]["loss"], plain[i]["loss"]);
  EXPECT_FALSE(std::filesystem::exists(scratch.path() / "run" / "profile"));
}

}  // namespace
}  // namespace moesaic
