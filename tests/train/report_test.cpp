// What a person reads of a run. The terminal is a variable here, so both kinds of output are tested.
#include "moesaic/train/report.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>

#include "moesaic/base/log.hpp"

namespace moesaic {
namespace {

const ReportFrame frame{.first_step = 0, .steps = 1100, .every = 2, .ranks = 4};

/// 1000 tokens a second on each of four ranks.
StepMetrics metrics_at(std::int64_t step, double loss, double seconds) {
  return {.step = step,
          .loss = loss,
          .auxiliary_loss = 1.02,
          .prediction_loss = std::nullopt,
          .validation_loss = std::nullopt,
          .grad_norm = 0.84,
          .lr = 1.9e-3,
          .tokens = step * 4000,
          .seconds = seconds,
          .tokens_per_second_per_rank = 1000,
          .tflops_per_rank = 0.5,
          .expert_load = 1.31,
          .memory_peak_bytes = 1 << 30,
          .checkpoint = {}};
}

class UtcReport : public ::testing::Test {
 protected:
  void SetUp() override {
    setenv("TZ", "UTC", 1);
    tzset();
    is_terminal = false;
  }
  void TearDown() override { is_terminal = false; }
};

constexpr std::time_t noon = 1764072000;  // 2025-11-25 12:00:00 UTC

TEST_F(UtcReport, FinishIsATimeOfDay) {
  EXPECT_EQ(format_finish(noon, 0), "12:00:00");
  EXPECT_EQ(format_finish(noon, 2 * 3600 + 3 * 60 + 22.4), "14:03:22");
  EXPECT_EQ(format_finish(noon, 12 * 3600 - 1), "23:59:59");
}

TEST_F(UtcReport, FinishOnAnotherDayHasTheDate) {
  EXPECT_EQ(format_finish(noon, 12 * 3600), "2025-11-26 00:00");
  EXPECT_EQ(format_finish(noon, 365 * 86400.0), "2026-11-25 12:00");
}

TEST_F(UtcReport, FinishThatCannotBeToldIsADash) {
  for (const double seconds :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), -1.0, 1e300})
    EXPECT_EQ(format_finish(noon, seconds), "-");
}

TEST_F(UtcReport, IntervalLineMeansLossAndRate) {
  // (2.0 + 3.0) / 2; 4 ranks x (1000 x 1 + 250 x 3) tokens in 4 seconds.
  std::vector<StepMetrics> interval{metrics_at(199, 2.0, 1), metrics_at(200, 3.0, 3)};
  interval[1].tokens_per_second_per_rank = 250;
  EXPECT_EQ(interval_line(frame, interval, "14:03:22"),
            "step  200/1100  loss 2.5000  aux 1.02  load 1.31  grad 0.84  lr 1.9e-03  1.75k tok/s  ends 14:03:22");
}

TEST_F(UtcReport, IntervalLineWithoutTimeHasNoRate) {
  const std::vector<StepMetrics> interval{metrics_at(1, 2.0, 0)};
  EXPECT_NE(interval_line(frame, interval, "-").find("  - tok/s  ends -"), std::string::npos);
}

TEST_F(UtcReport, IntervalLineShowsSmallAndLargeNorms) {
  std::vector<StepMetrics> interval{metrics_at(1, 2.0, 1)};
  interval[0].grad_norm = 0.00123;
  EXPECT_NE(interval_line(frame, interval, "-").find("grad 1.2e-03  "), std::string::npos);
  interval[0].grad_norm = 12345;
  EXPECT_NE(interval_line(frame, interval, "-").find("grad 1.2e+04  "), std::string::npos);
}

TEST_F(UtcReport, BarGrowsWithTheSteps) {
  const ReportFrame hundred{.first_step = 0, .steps = 100, .every = 10, .ranks = 1};
  EXPECT_EQ(progress_bar(hundred, metrics_at(50, 2.0, 1), "14:03:22"),
            "[===============>              ]  50%  step  50/100  loss 2.0000  ends 14:03:22");
  EXPECT_EQ(progress_bar(hundred, metrics_at(100, 2.0, 1), "14:03:22"),
            "[==============================] 100%  step 100/100  loss 2.0000  ends 14:03:22");
}

TEST_F(UtcReport, BarFitsALineAndNeedsNoSteps) {
  const ReportFrame huge{.first_step = 0, .steps = 1'000'000'000'000, .every = 10, .ranks = 1};
  EXPECT_LE(progress_bar(huge, metrics_at(999'999'999'999, 2.0, 1), "2025-11-26 00:00").size(), 79u);
  EXPECT_EQ(progress_bar({}, metrics_at(0, 2.0, 1), "-").substr(0, 2), "[>");
}

TEST_F(UtcReport, TotalsAddSteps) {
  StepTotals totals;
  totals.add(metrics_at(1, 2.0, 1), 4);
  StepMetrics second = metrics_at(2, 3.0, 3);
  second.validation_loss = 2.75;
  totals.add(second, 4);
  totals.add(metrics_at(3, 1.5, 1), 4);
  EXPECT_EQ(totals.seconds, 5);
  EXPECT_EQ(totals.tokens, 20000);
  EXPECT_EQ(totals.teraflops, 2.5);
  EXPECT_EQ(totals.training_loss, 1.5);
  EXPECT_EQ(totals.validation_loss, 2.75);
}

TEST_F(UtcReport, ClosingTableIsAligned) {
  const std::array<double, num_phases> seconds{10, 0, 60, 120, 10, 0, 0, 0};
  const StepTotals totals{.seconds = 100,
                          .tokens = 1e6,
                          .teraflops = 50,
                          .training_loss = 2.1,
                          .validation_loss = 2.25,
                          .memory_peak_bytes = std::int64_t{3} << 29};
  EXPECT_EQ(closing_table(seconds, totals),
            "phase               time    share\n"
            "---------------------------------\n"
            "start              10.0s     5.0%\n"
            "forward           1m 00s    30.0%\n"
            "backward          2m 00s    60.0%\n"
            "optimizer          10.0s     5.0%\n"
            "---------------------------------\n"
            "total             3m 20s   100.0%\n"
            "\n"
            "tokens            1.00M, 10.0k a second, 27.8 hours a billion\n"
            "TFLOP/s a rank    0.5\n"
            "peak memory       1.50 GiB (the rank that needs most)\n"
            "training loss     2.1000\n"
            "validation loss   2.2500\n");
}

TEST_F(UtcReport, ClosingTableOfNothingDividesByNothing) {
  const std::string table = closing_table({}, {});
  EXPECT_NE(table.find("total                0ms     0.0%\n"), std::string::npos) << table;
  EXPECT_NE(table.find("tokens            0, - a second, - hours a billion\n"), std::string::npos) << table;
  EXPECT_NE(table.find("TFLOP/s a rank    -\n"), std::string::npos) << table;
  EXPECT_EQ(table.find("nan"), std::string::npos) << table;
  EXPECT_EQ(table.find("validation"), std::string::npos) << table;
}

/// Steps 1 to 3 of 4 with a line every two, then the end of the process.
std::string output_of_a_stopped_run() {
  ::testing::internal::CaptureStdout();
  Report report({.first_step = 0, .steps = 4, .every = 2, .ranks = 1});
  report.step(metrics_at(1, 4.0, 1));
  report.step(metrics_at(2, 2.0, 1));
  report.validation(2, 2.5);
  report.checkpoint(2, "run/step-00000002.h5", 1.5);
  report.step(metrics_at(3, 1.0, 1));
  report.closing(Phases(), metrics_at(3, 1.0, 1));
  return ::testing::internal::GetCapturedStdout();
}

TEST_F(UtcReport, AFileGetsLinesAlone) {
  const std::string output = output_of_a_stopped_run();
  EXPECT_EQ(output.find('\r'), std::string::npos);
  EXPECT_EQ(output.find("step 2/4  loss 3.0000"), 0u) << output;
  EXPECT_NE(output.find("\nstep 2/4  validation loss 2.5000\n"), std::string::npos) << output;
  EXPECT_NE(output.find("\nstep 2/4  saved run/step-00000002.h5 in 1.5s\n"), std::string::npos) << output;
  EXPECT_NE(output.find("\nstep 3/4  loss 1.0000"), std::string::npos) << output;  // of the interval that was not full
  EXPECT_NE(output.find("\nvalidation loss   2.5000\n"), std::string::npos) << output;
}

TEST_F(UtcReport, ATerminalGetsABarThatLinesWipe) {
  is_terminal = true;
  const std::string output = output_of_a_stopped_run();
  EXPECT_EQ(output.find("\r\x1b[K["), 0u);
  EXPECT_NE(output.find("\r\x1b[Kstep 2/4  loss 3.0000"), std::string::npos);
  EXPECT_NE(output.find("\r\x1b[Kstep 2/4  validation loss"), std::string::npos);
}

TEST_F(UtcReport, TheLastStepEndsItsInterval) {
  ::testing::internal::CaptureStdout();
  Report report({.first_step = 2, .steps = 3, .every = 0, .ranks = 1});
  report.step(metrics_at(3, 1.0, 1));
  EXPECT_EQ(::testing::internal::GetCapturedStdout().find("step 3/3  loss 1.0000"), 0u);
}

}  // namespace
}  // namespace moesaic
