// The picture of the loss: what is drawn, and that any run can be drawn.
#include "moesaic/train/loss_curve.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "io/temporary_folder.hpp"
#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

LossSeries falling(std::int64_t steps) {
  LossSeries series;
  for (std::int64_t step = 1; step <= steps; ++step)
    series.push_back({step, 2 + 4 / std::sqrt(static_cast<double>(step))});
  return series;
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

bool holds(const std::string& text, const std::string& part) { return count(text, part) > 0; }

TEST(LossCurve, DrawsTrainingMeanAndValidation) {
  const std::string svg = loss_curve_svg(falling(1000), {{500, 2.5}, {1000, 2.25}});
  EXPECT_EQ(svg.find("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"960\" height=\"540\""), 0u);
  EXPECT_EQ(count(svg, "<polyline"), 3u);
  EXPECT_EQ(count(svg, "<circle"), 2u + 1u);  // and the legend's
  for (const char* words : {">step</text>", ">loss (nats a token)</text>", ">training</text>",
                            ">mean of 21 steps</text>", ">validation</text>", ">1000</text>", "validation 2.2500"})
    EXPECT_TRUE(holds(svg, words)) << words;
  EXPECT_FALSE(holds(svg, "nan"));
  EXPECT_FALSE(holds(svg, "inf"));
}

TEST(LossCurve, PutsTheLastStepAtTheRightEdge) {
  // Steps from 0 to 1000 across [76, 928]; a loss in the middle of the range halfway up [84, 476].
  const std::string svg = loss_curve_svg({{0, 1}, {500, 2}, {1000, 3}}, {});
  EXPECT_TRUE(holds(svg, "points=\"76.0,458.2 502.0,280.0 928.0,101.8\"")) << svg;
}

TEST(LossCurve, NamesOnlyWhatIsThere) {
  const std::string svg = loss_curve_svg(falling(20), {});
  EXPECT_FALSE(holds(svg, "validation"));
  EXPECT_FALSE(holds(svg, "mean of"));  // a mean of one step is the step
  EXPECT_EQ(count(svg, "<polyline"), 1u);
}

TEST(LossCurve, LongRunsAreThinned) {
  const std::string svg = loss_curve_svg(falling(300'000), {});
  EXPECT_LE(std::count(svg.begin(), svg.end(), ','), 2 * 2000 + 200);
  EXPECT_TRUE(holds(svg, ">200k</text>"));
}

TEST(LossCurve, ASpikeDoesNotFlattenTheRest) {
  LossSeries spiked = falling(1000);
  spiked[700].loss = 1e6;
  const std::string svg = loss_curve_svg(spiked, {});
  EXPECT_TRUE(holds(svg, ">6.0</text>"));  // the loss begins at 6, the highest of the rest
  EXPECT_FALSE(holds(svg, "k</text>"));
  EXPECT_FALSE(holds(svg, "M</text>"));
}

TEST(LossCurve, EveryShortRunCanBeDrawn) {
  EXPECT_TRUE(holds(loss_curve_svg({}, {}), "no step has a loss yet"));
  for (const std::string& svg : {loss_curve_svg({{1, 3}}, {}), loss_curve_svg({}, {{7, 0}}),
                                 loss_curve_svg({{5, 2}, {6, 2}}, {}), loss_curve_svg({{0, 0}}, {{0, 0}})}) {
    EXPECT_FALSE(holds(svg, "nan")) << svg;
    EXPECT_FALSE(holds(svg, "inf")) << svg;
    EXPECT_TRUE(holds(svg, "</svg>\n"));
  }
}

TEST(LossCurve, ReadsMetricsAndReplacesThePicture) {
  const test::TemporaryFolder folder;
  test::write_file(folder / "metrics.jsonl", "{\"step\": 1, \"loss\": 3}\n{\"step\": 2, \"loss\": 2.5}\n");
  test::write_file(folder / "loss.svg", "old");
  draw_loss_curve(folder / "metrics.jsonl", folder / "loss.svg");
  std::ostringstream svg;
  svg << std::ifstream(folder / "loss.svg").rdbuf();
  EXPECT_EQ(svg.str(), loss_curve_svg({{1, 3}, {2, 2.5}}, {}));
  EXPECT_THROW(draw_loss_curve(folder / "metrics.jsonl", folder / "none" / "loss.svg"), RunError);
}

}  // namespace
}  // namespace moesaic
