#include "moesaic/parallel/stage_layout.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>

namespace moesaic {
namespace {

using Runs = std::vector<Block>;

double cost_of(const std::vector<double>& costs, Block run) {
  return std::accumulate(costs.begin() + run.begin, costs.begin() + run.end, 0.0);
}

double largest_cost(const std::vector<double>& costs, const Runs& runs) {
  double largest = 0;
  for (const Block& run : runs) largest = std::max(largest, cost_of(costs, run));
  return largest;
}

/// The smallest largest cost, by trying every cut.
double best_by_exhaustion(const std::vector<double>& costs, std::int64_t begin, int stages) {
  const std::int64_t blocks = std::ssize(costs);
  if (stages == 1) return cost_of(costs, {begin, blocks});
  double best = cost_of(costs, {begin, blocks});
  for (std::int64_t end = begin + 1; end <= blocks - (stages - 1); ++end)
    best = std::min(best, std::max(cost_of(costs, {begin, end}), best_by_exhaustion(costs, end, stages - 1)));
  return best;
}

void expect_tiled(const Runs& runs, std::int64_t blocks) {
  std::int64_t end = 0;
  for (const Block& run : runs) {
    EXPECT_EQ(run.begin, end);
    EXPECT_GT(run.size(), 0);
    end = run.end;
  }
  EXPECT_EQ(end, blocks);
}

TEST(StageLayout, BalancedByHand) {
  const std::vector<double> costs{1, 4, 4, 4, 4, 1};
  EXPECT_EQ(balance_stages(costs, 1), (Runs{{0, 6}}));
  EXPECT_EQ(balance_stages(costs, 2), (Runs{{0, 3}, {3, 6}}));
  EXPECT_EQ(balance_stages(costs, 3), (Runs{{0, 2}, {2, 4}, {4, 6}}));
  EXPECT_EQ(balance_stages(costs, 6), (Runs{{0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 5}, {5, 6}}));
}

TEST(StageLayout, AHeavyHeadStandsAloneAndTheRestIsEven) {
  EXPECT_EQ(balance_stages(std::vector<double>{1, 1, 1, 1, 1, 1, 10}, 3), (Runs{{0, 3}, {3, 6}, {6, 7}}));
}

TEST(StageLayout, OfEqualCutsTheLastStagesOwnMore) {
  EXPECT_EQ(balance_stages(std::vector<double>(5, 1.0), 4), (Runs{{0, 1}, {1, 2}, {2, 3}, {3, 5}}));
}

TEST(StageLayout, BlocksWithoutCostAreOwnedToo) {
  expect_tiled(balance_stages(std::vector<double>(7, 0.0), 3), 7);
  EXPECT_EQ(balance_stages(std::vector<double>{0, 0, 5}, 3), (Runs{{0, 1}, {1, 2}, {2, 3}}));
}

TEST(StageLayout, NoCutIsBetter) {
  std::mt19937 random(7);
  for (int blocks = 1; blocks <= 9; ++blocks) {
    for (int stages = 1; stages <= blocks; ++stages) {
      std::vector<double> costs(blocks);
      for (double& cost : costs) cost = static_cast<double>(random() % 20);
      const Runs runs = balance_stages(costs, stages);
      EXPECT_EQ(std::ssize(runs), stages);
      expect_tiled(runs, blocks);
      EXPECT_EQ(largest_cost(costs, runs), best_by_exhaustion(costs, 0, stages));
    }
  }
}

/// 15 stages of 0.83 or less would own 121 of the 128 inner blocks at most: 0.9 is the best.
TEST(StageLayout, FractionsDoNotHideTheBestCut) {
  std::vector<double> costs(130, 0.1);
  costs.front() = 0.03;
  costs.back() = 0.7;
  const Runs runs = balance_stages(costs, 16);
  expect_tiled(runs, 130);
  EXPECT_NEAR(largest_cost(costs, runs), 0.9, 1e-9);
}

TEST(StageLayout, MoreStagesThanBlocksAreRefused) {
  EXPECT_THROW(balance_stages(std::vector<double>(3, 1.0), 4), InputError);
}

TEST(StageLayout, ExplicitByHand) {
  EXPECT_EQ(parse_stage_layout("5,4,4,3", 16, 4), (Runs{{0, 5}, {5, 9}, {9, 13}, {13, 16}}));
  EXPECT_EQ(parse_stage_layout(" 1, 2 ", 3, 2), (Runs{{0, 1}, {1, 3}}));
}

std::string refusal(std::string_view layout, std::int64_t blocks, int stages) {
  try {
    parse_stage_layout(layout, blocks, stages);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(StageLayout, RefusalsQuoteTheFigures) {
  const auto expect_said = [](const std::string& message, const std::string& part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  expect_said(refusal("5,4,4,2", 16, 4), "holds 15 blocks, the model has 16");
  expect_said(refusal("8,8", 16, 4), "names 2 stages, grid.pipeline x grid.chunks makes 4");
  expect_said(refusal("8,0,8", 16, 3), "gives stage 1 0 blocks");
  expect_said(refusal("8,-1,9", 16, 3), "gives stage 1 -1 blocks");
  expect_said(refusal("8,x,8", 16, 3), "\"x\" is no number");
  expect_said(refusal("8,,8", 16, 3), "\"\" is no number");
  expect_said(refusal("8,8,", 16, 2), "\"\" is no number");
  expect_said(refusal("8 8", 16, 2), "\"8 8\" is no number");
  expect_said(refusal("", 16, 1), "\"\" is no number");
  expect_said(refusal("9223372036854775807,9223372036854775807", 16, 2), "the model has 16");
  expect_said(refusal("99999999999999999999", 16, 1), "is no number");
}

}  // namespace
}  // namespace moesaic
