#include "moesaic/optim/learning_rate.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace moesaic {
namespace {

OptimizerSettings settings(LrSchedule schedule, std::int64_t warmup) {
  return {.lr = 0.8, .schedule = schedule, .warmup = warmup, .min_lr = 0.2, .decay_share = 0.25};
}

TEST(LearningRate, WarmUpRisesInEqualStepsUpToTheFullRate) {
  for (LrSchedule schedule : {LrSchedule::constant, LrSchedule::cosine, LrSchedule::wsd}) {
    const OptimizerSettings four = settings(schedule, 4);
    EXPECT_DOUBLE_EQ(learning_rate(four, 1, 100), 0.2);
    EXPECT_DOUBLE_EQ(learning_rate(four, 2, 100), 0.4);
    EXPECT_DOUBLE_EQ(learning_rate(four, 3, 100), 0.6);
    EXPECT_DOUBLE_EQ(learning_rate(four, 4, 100), 0.8);
  }
}

TEST(LearningRate, WithoutWarmUpTheFirstStepHasTheFullRate) {
  EXPECT_DOUBLE_EQ(learning_rate(settings(LrSchedule::constant, 0), 1, 100), 0.8);
  EXPECT_DOUBLE_EQ(learning_rate(settings(LrSchedule::wsd, 0), 1, 100), 0.8);
  // cosine: x = 1 / 100, the full rate lies at step 0.
  EXPECT_DOUBLE_EQ(learning_rate(settings(LrSchedule::cosine, 0), 0, 100), 0.8);
  EXPECT_DOUBLE_EQ(learning_rate(settings(LrSchedule::cosine, 0), 1, 100), 0.2 + 0.3 * (1 + std::cos(M_PI / 100)));
}

TEST(LearningRate, ConstantStays) {
  for (std::int64_t step : {4, 5, 50, 100, 101}) {
    EXPECT_DOUBLE_EQ(learning_rate(settings(LrSchedule::constant, 4), step, 100), 0.8);
  }
}

TEST(LearningRate, CosineFallsFromTheWarmUpsEndToTheLastStep) {
  const OptimizerSettings cosine = settings(LrSchedule::cosine, 4);
  // From 4 to 16: a third of the way is cos 60 degrees, the middle 90, two thirds 120.
  EXPECT_DOUBLE_EQ(learning_rate(cosine, 4, 16), 0.8);
  EXPECT_DOUBLE_EQ(learning_rate(cosine, 8, 16), 0.65);
  EXPECT_DOUBLE_EQ(learning_rate(cosine, 10, 16), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(cosine, 12, 16), 0.35);
  EXPECT_DOUBLE_EQ(learning_rate(cosine, 16, 16), 0.2);
  EXPECT_DOUBLE_EQ(learning_rate(cosine, 20, 16), 0.2);
}

TEST(LearningRate, WsdStaysThenFallsInAStraightLine) {
  const OptimizerSettings wsd = settings(LrSchedule::wsd, 4);
  // A quarter of 16 steps: down from 12 to 16.
  EXPECT_DOUBLE_EQ(learning_rate(wsd, 11, 16), 0.8);
  EXPECT_DOUBLE_EQ(learning_rate(wsd, 12, 16), 0.8);
  EXPECT_DOUBLE_EQ(learning_rate(wsd, 13, 16), 0.65);
  EXPECT_DOUBLE_EQ(learning_rate(wsd, 14, 16), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(wsd, 15, 16), 0.35);
  EXPECT_DOUBLE_EQ(learning_rate(wsd, 16, 16), 0.2);
}

TEST(LearningRate, WsdWithoutADecayIsConstant) {
  OptimizerSettings wsd = settings(LrSchedule::wsd, 0);
  wsd.decay_share = 0;
  EXPECT_DOUBLE_EQ(learning_rate(wsd, 16, 16), 0.8);
}

TEST(LearningRate, ARunShorterThanItsWarmUpOnlyWarmsUp) {
  for (LrSchedule schedule : {LrSchedule::constant, LrSchedule::cosine, LrSchedule::wsd})
    EXPECT_DOUBLE_EQ(learning_rate(settings(schedule, 10), 5, 5), 0.4);
}

}  // namespace
}  // namespace moesaic
