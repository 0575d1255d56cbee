#include "moesaic/base/text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace moesaic {
namespace {

/// Optimal string alignment distance; row i holds the distances of the first i characters of `a`.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before, last(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    before = last;
    last = row;
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row[b.size()];
}

std::string three_figures(double value) {
  if (value < 9.995) return fmt::format("{:.2f}", value);
  if (value < 99.95) return fmt::format("{:.1f}", value);
  return fmt::format("{:.0f}", value);
}

}  // namespace

std::string nearest_name(std::string_view word, std::span<const std::string> candidates) {
  const auto nearest =
      std::ranges::min_element(candidates, {}, [word](const std::string& name) { return edit_distance(word, name); });
  return nearest == candidates.end() ? std::string() : *nearest;
}

std::string format_bytes(std::int64_t bytes) {
  static constexpr std::array units{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (std::abs(bytes) < 1024) return fmt::format("{} B", bytes);
  double value = std::abs(static_cast<double>(bytes)) / 1024;
  std::size_t unit = 0;
  for (; value >= 1023.5 && unit + 1 < units.size(); ++unit) value /= 1024;
  return fmt::format("{}{} {}", bytes < 0 ? "-" : "", three_figures(value), units[unit]);
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds)) return "-";
  if (seconds < 0.9995) return fmt::format("{:.0f}ms", seconds * 1000);
  if (seconds < 59.95) return fmt::format("{:.1f}s", seconds);
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  const std::int64_t minutes = whole / 60, hours = minutes / 60, days = hours / 24;
  if (days > 0) return fmt::format("{}d {:02}h {:02}m", days, hours % 24, minutes % 60);
  if (hours > 0) return fmt::format("{}h {:02}m {:02}s", hours, minutes % 60, whole % 60);
  return fmt::format("{}m {:02}s", minutes, whole % 60);
}

std::string format_count(double count) {
  static constexpr std::array units{"k", "M", "B", "T"};
  if (!std::isfinite(count)) return "-";
  const double size = std::abs(count);
  if (size < 999.5) return size == std::floor(size) ? fmt::format("{:.0f}", count) : fmt::format("{:.3g}", count);
  double value = size / 1000;
  std::size_t unit = 0;
  for (; value >= 999.5 && unit + 1 < units.size(); ++unit) value /= 1000;
  return fmt::format("{}{}{}", count < 0 ? "-" : "", three_figures(value), units[unit]);
}

}  // namespace moesaic
