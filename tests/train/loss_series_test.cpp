// The numbers behind the loss curve.
#include "moesaic/train/loss_series.hpp"

#include <gtest/gtest.h>

#include "io/temporary_folder.hpp"

namespace moesaic {
namespace {

LossSeries series_of(const std::vector<double>& losses) {
  LossSeries series;
  for (const double loss : losses) series.push_back({static_cast<std::int64_t>(series.size()) + 1, loss});
  return series;
}

std::vector<double> losses_of(const LossSeries& series) {
  std::vector<double> losses;
  for (const LossPoint& point : series) losses.push_back(point.loss);
  return losses;
}

TEST(LossSeries, ReadsWhatIsANumber) {
  const test::TemporaryFolder folder;
  test::write_file(folder / "m.jsonl",
                   "{\"step\": 1, \"loss\": 3}\n"
                   "{\"step\": 2, \"loss\": null, \"validation_loss\": 2.5}\n"
                   "no line of ours\n[1]\n{\"loss\": 9}\n"
                   "{\"step\": 4, \"loss\": 1.5, \"validation_loss\": null}\n{\"step\": 5, \"lo");
  const auto [training, validation] = read_losses(folder / "m.jsonl");
  EXPECT_EQ(losses_of(training), (std::vector<double>{3, 1.5}));
  EXPECT_EQ(training.at(1).step, 4);
  EXPECT_EQ(losses_of(validation), std::vector<double>{2.5});
  EXPECT_EQ(validation.at(0).step, 2);
}

TEST(LossSeries, NoFileIsNoPoints) { EXPECT_TRUE(read_losses("no/such/metrics.jsonl").training.empty()); }

TEST(LossSeries, RunningMeanNarrowsTowardsTheEnds) {
  EXPECT_EQ(losses_of(running_mean(series_of({8, 4, 0, 4, 2}), 5)), (std::vector<double>{8, 4, 3.6, 2, 2}));
  EXPECT_EQ(losses_of(running_mean(series_of({8, 4}), 1)), (std::vector<double>{8, 4}));
  EXPECT_TRUE(running_mean({}, 3).empty());
}

TEST(LossSeries, ThinningKeepsTheExtremesInOrder) {
  const LossSeries thin = thinned(series_of({5, 9, 1, 4, 2, 3, 8, 7}), 4);
  EXPECT_EQ(losses_of(thin), (std::vector<double>{9, 1, 2, 8}));
  EXPECT_EQ(thin.at(3).step, 7);
  EXPECT_EQ(thinned(series_of({1, 2, 3}), 4).size(), 3u);
}

TEST(LossSeries, ThinningKeepsOnePointOfAFlatStretch) {
  EXPECT_LE(thinned(LossSeries(100'001, {1, 2.0}), 2000).size(), 2000u);
}

TEST(LossSeries, TicksAreRound) {
  EXPECT_EQ(round_ticks(0, 97, 5).at, (std::vector<double>{0, 20, 40, 60, 80}));
  EXPECT_EQ(round_ticks(1.9, 4.1, 5).at, (std::vector<double>{2, 2.5, 3, 3.5, 4}));
  EXPECT_EQ(round_ticks(0, 3, 9, 1).at, (std::vector<double>{0, 1, 2, 3}));
  EXPECT_EQ(round_ticks(-1, 1, 2).at, (std::vector<double>{-1, 0, 1}));
}

TEST(LossSeries, LabelsAreShort) {
  EXPECT_EQ(tick_label(0.05, 0.05), "0.05");
  EXPECT_EQ(tick_label(2.5, 0.5), "2.5");
  EXPECT_EQ(tick_label(3, 1), "3");
  EXPECT_EQ(tick_label(1500, 500), "1500");
  EXPECT_EQ(tick_label(20000, 5000), "20k");
  EXPECT_EQ(tick_label(2.5e6, 5e5), "2.5M");
  EXPECT_EQ(tick_label(0, 500), "0");
}

}  // namespace
}  // namespace moesaic
