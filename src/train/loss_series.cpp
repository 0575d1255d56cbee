#include "moesaic/train/loss_series.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <algorithm>
#include <cmath>
#include <fstream>

#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

void add_number(LossSeries& series, std::int64_t step, const nlohmann::json& line, const char* key) {
  const auto number = line.find(key);
  if (number == line.end() || !number->is_number()) return;
  const double loss = number->get<double>();
  if (std::isfinite(loss)) series.push_back({step, loss});
}

std::vector<double> sums_before(const LossSeries& series) {
  std::vector<double> sums{0};
  for (const LossPoint& point : series) sums.push_back(sums.back() + point.loss);
  return sums;
}

}  // namespace

LossHistory read_losses(const std::filesystem::path& metrics) {
  LossHistory history;
  std::ifstream file(metrics);
  for (std::string text; std::getline(file, text);) {
    const auto line = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!line.is_object() || !line.contains("step") || !line["step"].is_number_integer()) continue;
    const auto step = line["step"].get<std::int64_t>();
    add_number(history.training, step, line, "loss");
    add_number(history.validation, step, line, "validation_loss");
  }
  return history;
}

LossSeries running_mean(const LossSeries& series, std::int64_t window) {
  const std::vector<double> sums = sums_before(series);
  const auto count = static_cast<std::int64_t>(series.size());
  LossSeries means(series);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t reach = std::min({window / 2, i, count - 1 - i});
    const auto first = static_cast<std::size_t>(i - reach), end = static_cast<std::size_t>(i + reach + 1);
    means[static_cast<std::size_t>(i)].loss = (sums[end] - sums[first]) / static_cast<double>(end - first);
  }
  return means;
}

LossSeries thinned(const LossSeries& series, std::int64_t most) {
  MOESAIC_EXPECT(most >= 2);
  const auto count = static_cast<std::int64_t>(series.size());
  if (count <= most) return series;
  LossSeries kept;
  const std::int64_t stretches = most / 2;
  for (std::int64_t i = 0; i < stretches; ++i) {
    const auto begin = series.begin() + i * count / stretches, end = series.begin() + (i + 1) * count / stretches;
    auto [low, high] = std::minmax_element(begin, end, [](auto& a, auto& b) { return a.loss < b.loss; });
    if (high < low) std::swap(low, high);
    kept.push_back(*low);
    if (low != high) kept.push_back(*high);
  }
  return kept;
}

Ticks round_ticks(double low, double high, int about, double smallest) {
  MOESAIC_EXPECT(low < high && about > 0);
  const double ideal = (high - low) / about;
  const double power = std::pow(10.0, std::floor(std::log10(ideal)));
  const double lead = ideal / power;
  const double nice = lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10;
  Ticks ticks{std::max(nice * power, smallest), {}};
  const double slack = 1e-9 * ticks.spacing;
  const double first = std::ceil((low - slack) / ticks.spacing);
  for (double i = first; i * ticks.spacing <= high + slack; ++i) ticks.at.push_back(i * ticks.spacing);
  return ticks;
}

std::string tick_label(double value, double spacing) {
  if (value == 0) return "0";
  if (std::abs(value) >= 1e6) return fmt::format("{:.6g}M", value / 1e6);
  if (std::abs(value) >= 1e4) return fmt::format("{:.6g}k", value / 1e3);
  const int decimals = std::max(0, static_cast<int>(-std::floor(std::log10(spacing) + 1e-9)));
  return fmt::format("{:.{}f}", value, decimals);
}

}  // namespace moesaic
