#include "moesaic/train/loss_curve.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "replace_file.hpp"

namespace moesaic {
namespace {

constexpr double width = 960, height = 540;
constexpr double left = 76, right = 928, top = 84, bottom = 476;  // the frame
constexpr std::int64_t most_points = 2000;
constexpr const char* ink = "#1f2933";
constexpr const char* faint_ink = "#66727f";
constexpr const char* raw_colour = "#a9c3e0";
constexpr const char* mean_colour = "#1d5fa6";
constexpr const char* validation_colour = "#d2611c";

struct Range {
  double low = 0, high = 1;
};

/// From numbers to the picture's coordinates, whose vertical axis points down.
struct Axes {
  Range steps, losses;
  double x(double step) const { return left + (right - left) * (step - steps.low) / (steps.high - steps.low); }
  double y(double loss) const { return bottom - (bottom - top) * (loss - losses.low) / (losses.high - losses.low); }
};

void extend(Range& range, double value) { range = {std::min(range.low, value), std::max(range.high, value)}; }

/// Without the outermost half percent at both ends.
Range bulk(const LossSeries& series) {
  std::vector<double> losses;
  for (const LossPoint& point : series) losses.push_back(point.loss);
  std::sort(losses.begin(), losses.end());
  const std::size_t cut = losses.size() / 200;
  return {losses[cut], losses[losses.size() - 1 - cut]};
}

/// Spikes run out of the frame; where the run began, where it is, and every validation are within.
Range loss_range(const LossSeries& training, const LossSeries& validation) {
  const LossSeries& series = training.empty() ? validation : training;
  Range range = bulk(series);
  extend(range, series.front().loss);
  extend(range, series.back().loss);
  for (const LossPoint& point : validation) extend(range, point.loss);
  const double size = range.high - range.low;
  const double margin = size > 0 ? 0.05 * size : std::max(0.05 * std::abs(range.high), 0.05);
  return {range.low - margin, range.high + margin};
}

/// From 0 where the run began there or near.
Range step_range(const LossSeries& training, const LossSeries& validation) {
  const LossSeries& series = training.empty() ? validation : training;
  Range range{static_cast<double>(series.front().step), static_cast<double>(series.back().step)};
  if (range.low <= 0.1 * range.high || range.low == range.high) range.low = 0;
  if (!validation.empty()) extend(range, static_cast<double>(validation.back().step));
  range.high = std::max(range.high, range.low + 1);
  return range;
}

std::string text(double x, double y, const char* style, const std::string& words) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, style, words);
}

std::string line(double x1, double y1, double x2, double y2, const char* style) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" {}/>\n", x1, y1, x2, y2, style);
}

std::string curve(const LossSeries& series, const Axes& axes, const char* colour, double thickness) {
  if (series.size() < 2) return "";
  std::string points;
  for (const LossPoint& point : thinned(series, most_points))
    points += fmt::format("{:.1f},{:.1f} ", axes.x(static_cast<double>(point.step)), axes.y(point.loss));
  points.pop_back();
  return fmt::format(
      "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" stroke-linejoin=\"round\" points=\"{}\"/>\n", colour,
      thickness, points);
}

std::string mark(double x, double y, double radius, double rim, const char* colour) {
  return fmt::format(
      "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" fill=\"{}\" stroke=\"#ffffff\" stroke-width=\"{}\"/>\n", x, y,
      radius, colour, rim);
}

std::string marks(const LossSeries& series, const Axes& axes, const char* colour) {
  std::string circles;
  const bool few = series.size() <= 60;
  for (const LossPoint& point : thinned(series, most_points))
    circles += mark(axes.x(static_cast<double>(point.step)), axes.y(point.loss), few ? 4.5 : 2, few ? 1.2 : 0, colour);
  return circles;
}

std::string vertical_axis(const Axes& axes) {
  std::string svg;
  const Ticks ticks = round_ticks(axes.losses.low, axes.losses.high, 6);
  for (const double loss : ticks.at) {
    svg += line(left, axes.y(loss), right, axes.y(loss), "stroke=\"#e6eaee\"");
    svg += text(left - 10, axes.y(loss) + 4.5, "class=\"tick\" text-anchor=\"end\"", tick_label(loss, ticks.spacing));
  }
  return svg + fmt::format(
                   "<text class=\"label\" text-anchor=\"middle\" transform=\"translate(24 {:.1f}) rotate(-90)\">"
                   "loss (nats a token)</text>\n",
                   (top + bottom) / 2);
}

std::string horizontal_axis(const Axes& axes) {
  std::string svg = line(left, bottom, right, bottom, "stroke=\"#8a96a3\" stroke-width=\"1.2\"");
  const Ticks ticks = round_ticks(axes.steps.low, axes.steps.high, 9, /*smallest=*/1);
  for (const double step : ticks.at) {
    svg += line(axes.x(step), bottom, axes.x(step), bottom + 6, "stroke=\"#8a96a3\" stroke-width=\"1.2\"");
    svg += text(axes.x(step), bottom + 23, "class=\"tick\" text-anchor=\"middle\"", tick_label(step, ticks.spacing));
  }
  return svg + text((left + right) / 2, bottom + 50, "class=\"label\" text-anchor=\"middle\"", "step");
}

/// An odd number of steps, about a fiftieth of them.
std::int64_t mean_window(const LossSeries& training) {
  return static_cast<std::int64_t>(training.size()) / 100 * 2 + 1;
}

/// Over the last window; the last point of the running mean is a single step.
double last_mean(const LossSeries& training) {
  const std::int64_t window = mean_window(training);
  double sum = 0;
  for (auto point = training.end() - window; point != training.end(); ++point) sum += point->loss;
  return sum / static_cast<double>(window);
}

/// What the run has come to: "step 1100 · training 2.1034 · validation 2.2011".
std::string summary(const LossSeries& training, const LossSeries& validation) {
  std::string words = fmt::format("step {}", training.empty() ? validation.back().step : training.back().step);
  if (!training.empty()) words += fmt::format("  \u00b7  training {:.4f}", last_mean(training));
  if (!validation.empty()) words += fmt::format("  \u00b7  validation {:.4f}", validation.back().loss);
  return words;
}

std::string legend_entry(double& x, const char* colour, double thickness, bool marked, const std::string& words) {
  const double y = 45;
  x -= 7.2 * static_cast<double>(words.size());
  std::string svg = text(x, y + 4.5, "class=\"legend\"", words);
  svg += line(x - 36, y, x - 10, y, fmt::format("stroke=\"{}\" stroke-width=\"{}\"", colour, thickness).c_str());
  if (marked) svg += mark(x - 23, y, 4.5, 1.2, colour);
  x -= 60;
  return svg;
}

/// Right of the title, from right to left.
std::string legend(bool has_training, bool has_validation, std::int64_t window) {
  double x = right;
  std::string svg;
  if (has_validation) svg += legend_entry(x, validation_colour, 2, true, "validation");
  const bool smoothed = window > 1;
  if (has_training && smoothed)
    svg += legend_entry(x, mean_colour, 2.4, false, fmt::format("mean of {} steps", window));
  if (has_training) svg += legend_entry(x, smoothed ? raw_colour : mean_colour, 2, false, "training");
  return svg;
}

std::string head() {
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
             "role=\"img\">\n"
             "<title>Loss over steps</title>\n<style>\n"
             "text {{ font-family: Inter, 'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', "
             "sans-serif; }}\n"
             ".title {{ font-size: 20px; font-weight: 600; fill: {2}; }}\n.note {{ font-size: 13px; fill: {3}; }}\n"
             ".label {{ font-size: 14px; fill: {2}; }}\n.tick {{ font-size: 13px; fill: {3}; }}\n"
             ".legend {{ font-size: 13px; fill: {2}; }}\n</style>\n"
             "<clipPath id=\"frame\"><rect x=\"{4}\" y=\"{5}\" width=\"{6}\" height=\"{7}\"/></clipPath>\n"
             "<rect width=\"{0}\" height=\"{1}\" fill=\"#ffffff\"/>\n",
             width, height, ink, faint_ink, left, top, right - left, bottom - top) +
         text(left, 40, "class=\"title\"", "Loss");
}

std::string curves(const LossSeries& training, const LossSeries& mean, const LossSeries& validation, const Axes& axes) {
  std::string svg = "<g clip-path=\"url(#frame)\">\n";
  if (mean_window(training) > 1)
    svg += curve(training, axes, raw_colour, 1) + curve(mean, axes, mean_colour, 2.4);
  else
    svg += curve(training, axes, mean_colour, 1.8);
  svg += curve(validation, axes, validation_colour, 2) + "</g>\n";
  if (training.size() == 1) svg += marks(training, axes, mean_colour);
  return svg + marks(validation, axes, validation_colour);
}

}  // namespace

std::string loss_curve_svg(const LossSeries& training, const LossSeries& validation) {
  if (training.empty() && validation.empty())
    return head() + text(left, 64, "class=\"note\"", "no step has a loss yet") + "</svg>\n";
  const LossSeries mean = running_mean(training, mean_window(training));
  const Axes axes{step_range(training, validation), loss_range(training, validation)};
  return head() + text(left, 64, "class=\"note\"", summary(training, validation)) +
         legend(!training.empty(), !validation.empty(), mean_window(training)) + vertical_axis(axes) +
         horizontal_axis(axes) + curves(training, mean, validation, axes) + "</svg>\n";
}

void draw_loss_curve(const std::filesystem::path& metrics, const std::filesystem::path& picture) {
  const LossHistory history = read_losses(metrics);
  replace_file(picture, [&](std::ostream& file) { file << loss_curve_svg(history.training, history.validation); });
}

}  // namespace moesaic
