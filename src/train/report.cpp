#include "moesaic/train/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <numeric>

#include "moesaic/base/contract.hpp"
#include "moesaic/base/log.hpp"
#include "moesaic/base/text.hpp"

namespace moesaic {
namespace {

constexpr std::size_t bar_columns = 79;
constexpr std::string_view wipe = "\r\x1b[K";  // to the first column, clearing the line
constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

double ratio(double part, double whole) { return whole > 0 ? part / whole : unknown; }

/// Two decimals where they say something, else two figures.
std::string format_norm(double norm) {
  const bool plain = norm == 0 || !std::isfinite(norm) || (norm >= 0.1 && norm < 1000);
  return plain ? fmt::format("{:.2f}", norm) : fmt::format("{:.1e}", norm);
}

std::tm local_time(std::time_t time) {
  std::tm parts{};
  localtime_r(&time, &parts);
  return parts;
}

std::string steps_of(const ReportFrame& frame, std::int64_t step) {
  const std::string steps = fmt::format("{}", frame.steps);
  return fmt::format("step {:>{}}/{}", step, steps.size(), steps);
}

std::string phase_rows(const std::array<double, num_phases>& seconds) {
  const double total = std::accumulate(seconds.begin(), seconds.end(), 0.0);
  std::string rows = fmt::format("{:<12}{:>12}{:>9}\n", "phase", "time", "share");
  const auto add = [&](const char* name, double time) {
    const double percent = total > 0 ? 100 * time / total : 0;
    rows += fmt::format("{:<12}{:>12}{:>8.1f}%\n", name, format_duration(time), percent);
  };
  const std::string rule(33, '-');
  rows += rule + '\n';
  for (int i = 0; i < num_phases; ++i)
    if (seconds[static_cast<std::size_t>(i)] > 0) add(name_of(Phase(i)), seconds[static_cast<std::size_t>(i)]);
  rows += rule + '\n';
  add("total", total);
  return rows;
}

std::string fact_row(std::string_view name, std::string_view value) { return fmt::format("{:<18}{}\n", name, value); }

std::string rate_rows(const StepTotals& totals) {
  const double rate = ratio(totals.tokens, totals.seconds);
  const double hours = ratio(1e9 / 3600, rate);
  return fact_row("tokens", fmt::format("{}, {} a second, {} hours a billion", format_count(totals.tokens),
                                        format_count(rate), format_count(hours))) +
         fact_row("TFLOP/s a rank",
                  totals.seconds > 0 ? fmt::format("{:.3g}", totals.teraflops / totals.seconds) : "-");
}

void write_raw(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace

void StepTotals::add(const StepMetrics& metrics, int ranks) {
  seconds += metrics.seconds;
  tokens += metrics.tokens_per_second_per_rank * metrics.seconds * ranks;
  teraflops += metrics.tflops_per_rank * metrics.seconds;
  training_loss = metrics.loss;
  if (metrics.validation_loss) validation_loss = metrics.validation_loss;
  memory_peak_bytes = std::max(memory_peak_bytes, metrics.memory_peak_bytes);
}

std::string format_finish(std::time_t now, double seconds_left) {
  constexpr double hundred_years = 100 * 365.25 * 86400;
  if (!(seconds_left >= 0 && seconds_left < hundred_years)) return "-";
  const std::tm today = local_time(now);
  const std::tm end = local_time(now + static_cast<std::time_t>(std::llround(seconds_left)));
  const bool same_day = today.tm_yday == end.tm_yday && today.tm_year == end.tm_year;
  char text[32];
  return std::string(text, std::strftime(text, sizeof text, same_day ? "%H:%M:%S" : "%Y-%m-%d %H:%M", &end));
}

std::string interval_line(const ReportFrame& frame, std::span<const StepMetrics> interval, std::string_view ends) {
  MOESAIC_EXPECT(!interval.empty());
  StepTotals totals;
  double loss = 0;
  for (const StepMetrics& step : interval) {
    totals.add(step, frame.ranks);
    loss += step.loss / static_cast<double>(interval.size());
  }
  const StepMetrics& last = interval.back();
  return fmt::format("{}  loss {:.4f}  aux {:.2f}  load {:.2f}  grad {}  lr {:.1e}  {} tok/s  ends {}",
                     steps_of(frame, last.step), loss, last.auxiliary_loss, last.expert_load,
                     format_norm(last.grad_norm), last.lr, format_count(ratio(totals.tokens, totals.seconds)), ends);
}

std::string progress_bar(const ReportFrame& frame, const StepMetrics& now, std::string_view ends) {
  const double share = frame.steps > 0 ? static_cast<double>(now.step) / static_cast<double>(frame.steps) : 0;
  const double fraction = std::clamp(share, 0.0, 1.0);
  const std::string text = fmt::format("{:>3.0f}%  {}  loss {:.4f}  ends {}", std::floor(100 * fraction),
                                       steps_of(frame, now.step), now.loss, ends);
  const std::size_t room = bar_columns - std::min(bar_columns, text.size() + 3);  // brackets and a blank
  const std::size_t width = std::min<std::size_t>(room, 30);
  std::string filled(static_cast<std::size_t>(fraction * static_cast<double>(width)), '=');
  if (filled.size() < width) filled += '>';
  return fmt::format("[{:<{}}] {}", filled, width, text).substr(0, bar_columns);
}

std::string closing_table(const std::array<double, num_phases>& seconds, const StepTotals& totals) {
  std::string table = phase_rows(seconds) + '\n' + rate_rows(totals);
  table += fact_row("peak memory", format_bytes(totals.memory_peak_bytes) + " (the rank that needs most)");
  table += fact_row("training loss", fmt::format("{:.4f}", totals.training_loss));
  if (totals.validation_loss) table += fact_row("validation loss", fmt::format("{:.4f}", *totals.validation_loss));
  return table;
}

Report::Report(const ReportFrame& frame) : frame_(frame), began_(std::chrono::steady_clock::now()) {}

void Report::step(const StepMetrics& metrics) {
  totals_.add(metrics, frame_.ranks);
  interval_.push_back(metrics);
  const bool full = frame_.every > 0 && metrics.step % frame_.every == 0;
  if (full || metrics.step >= frame_.steps) end_interval();
  if (is_terminal && metrics.step < frame_.steps) draw_bar(metrics);
}

void Report::validation(std::int64_t step, double loss) {
  pause();
  totals_.validation_loss = loss;
  log_line("{}  validation loss {:.4f}", steps_of(frame_, step), loss);
}

void Report::checkpoint(std::int64_t step, const std::filesystem::path& path, double seconds) {
  pause();
  log_line("{}  saved {} in {}", steps_of(frame_, step), path.string(), format_duration(seconds));
}

void Report::pause() {
  if (bar_drawn_) write_raw(wipe);
  bar_drawn_ = false;
}

void Report::closing(const Phases& phases, const StepMetrics& last) {
  if (!interval_.empty()) end_interval();
  pause();
  if (last.validation_loss) totals_.validation_loss = last.validation_loss;
  std::array<double, num_phases> seconds{};
  for (int i = 0; i < num_phases; ++i) seconds[static_cast<std::size_t>(i)] = phases.seconds(Phase(i));
  log_line("\n{}", closing_table(seconds, totals_));
}

void Report::end_interval() {
  pause();
  log_line("{}", interval_line(frame_, interval_, ends(interval_.back().step)));
  interval_.clear();
}

void Report::draw_bar(const StepMetrics& metrics) {
  write_raw(std::string(wipe) + progress_bar(frame_, metrics, ends(metrics.step)));
  bar_drawn_ = true;
}

std::string Report::ends(std::int64_t step) const {
  const std::chrono::duration<double> so_far = std::chrono::steady_clock::now() - began_;
  const double a_step = ratio(so_far.count(), static_cast<double>(step - frame_.first_step));
  return format_finish(std::time(nullptr),
                       a_step * static_cast<double>(std::max<std::int64_t>(frame_.steps - step, 0)));
}

}  // namespace moesaic
