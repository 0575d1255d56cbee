#include "moesaic/train/profile_table.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace moesaic {
namespace {

/// A step of ten seconds: two in data, eight forward; there a block with two products of three seconds and one scale of one.
std::vector<Span> one_step() {
  const auto span = [](SpanKind kind, SpanText text, int parent, double begin, double end) {
    return Span{kind, std::move(text), parent, host_stream, 100 + begin, 100 + end};
  };
  return {span(SpanKind::step, {"step 4"}, -1, 0, 10),
          span(SpanKind::phase, {"data"}, 0, 0, 2),
          span(SpanKind::phase, {"forward"}, 0, 2, 10),
          span(SpanKind::block, {"blocks/0", "forward, micro-batch 1"}, 2, 2, 10),
          span(SpanKind::operation, {"gemm", "2x3x4", {6e12, 3e9}}, 3, 2, 5),
          span(SpanKind::operation, {"scale", "", {0, 5e9}}, 3, 5, 6),
          span(SpanKind::operation, {"gemm", "2x3x4", {6e12, 3e9}}, 3, 6.5, 9.5),
          span(SpanKind::operation, {"gemm", "8x8x8", {1, 1}}, -1, 20, 21)};  // of no step
}

constexpr DeviceRates rates{.flops = 4e12, .bytes = 10e9};

TEST(ProfileTable, SumsOperatorsOfOneNameAndShapeTheLongestFirst) {
  const auto sums = sum_operators(one_step());
  ASSERT_EQ(sums.size(), 2u);
  EXPECT_EQ(sums[0].name, "gemm");
  EXPECT_EQ(sums[0].shape, "2x3x4");
  EXPECT_EQ(sums[0].calls, 2);
  EXPECT_DOUBLE_EQ(sums[0].seconds, 6);
  EXPECT_DOUBLE_EQ(sums[0].amount.flops, 12e12);
  EXPECT_EQ(sums[1].name, "scale");
}

TEST(ProfileTable, WhatIsNoOperatorLiesBetweenThem) {
  const auto phases = sum_phases(one_step());
  ASSERT_EQ(phases.size(), 3u);
  EXPECT_EQ(phases[0].name, "data");
  EXPECT_DOUBLE_EQ(phases[0].between, 2);
  EXPECT_EQ(phases[1].name, "forward");
  EXPECT_DOUBLE_EQ(phases[1].seconds, 8);
  EXPECT_DOUBLE_EQ(phases[1].between, 1);
  EXPECT_EQ(phases[2].name, "step");
  EXPECT_DOUBLE_EQ(phases[2].seconds, 10);
  EXPECT_DOUBLE_EQ(phases[2].between, 3);
}

TEST(ProfileTable, OtherStreamsCountForNothing) {
  auto spans = one_step();
  int other = 0;
  spans[5].stream.handle = &other;
  EXPECT_EQ(sum_operators(spans).size(), 1u);
  EXPECT_DOUBLE_EQ(sum_phases(spans).back().between, 4);
}

TEST(ProfileTable, TheFloorIsTheSlowerOfFlopsAndBytes) {
  EXPECT_DOUBLE_EQ(floor_seconds({8e12, 10e9}, rates), 2);
  EXPECT_DOUBLE_EQ(floor_seconds({4e12, 30e9}, rates), 3);
  EXPECT_DOUBLE_EQ(floor_seconds({4e12, 30e9}, {}), 0);
}

TEST(ProfileTable, ShowsRatesAndFloors) {
  const std::string table = profile_table(one_step(), rates);
  // 12e12 FLOPs in 6 s are 2 TFLOP/s; at 4 TFLOP/s they take 3 s.
  EXPECT_NE(table.find("gemm                         2x3x4                        2  6000.000   60.0%     2.00     1.00"
                       "  3000.000   2.00\n"),
            std::string::npos)
      << table;
  EXPECT_NE(table.find("between operators"), std::string::npos);
  EXPECT_NE(table.find("\nstep                                                        10000.000  100.0%"),
            std::string::npos)
      << table;
  EXPECT_EQ(profile_table({}, rates), "");
}

TEST(ProfileTable, FoldsWhatIsShort) {
  auto spans = one_step();
  spans[5].end = spans[5].begin + 0.001;
  const std::string table = profile_table(spans, rates);
  EXPECT_EQ(table.find("scale"), std::string::npos) << table;
  EXPECT_NE(table.find("others                       1 of them"), std::string::npos) << table;
}

TEST(ProfileTable, TheTraceIsJsonWithPlaces) {
  const auto trace = nlohmann::json::parse(trace_json(one_step(), 3, 100));
  ASSERT_EQ(trace.size(), 2 + one_step().size());
  EXPECT_EQ(trace[0]["args"]["name"], "rank 3");
  EXPECT_EQ(trace[1]["args"]["name"], "compute");
  const auto& gemm = trace[2 + 4];
  EXPECT_EQ(gemm["name"], "gemm");
  EXPECT_EQ(gemm["ph"], "X");
  EXPECT_EQ(gemm["pid"], 3);
  EXPECT_EQ(gemm["tid"], 0);
  EXPECT_DOUBLE_EQ(gemm["ts"].get<double>(), 2e6);
  EXPECT_DOUBLE_EQ(gemm["dur"].get<double>(), 3e6);
  EXPECT_EQ(gemm["args"]["phase"], "forward");
  EXPECT_EQ(gemm["args"]["block"], "blocks/0");
  EXPECT_EQ(gemm["args"]["place"], "forward, micro-batch 1");
  EXPECT_EQ(gemm["args"]["shape"], "2x3x4");
  EXPECT_EQ(gemm["args"]["flops"], 6e12);
}

}  // namespace
}  // namespace moesaic
