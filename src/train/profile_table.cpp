#include "moesaic/train/profile_table.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

namespace moesaic {
namespace {

bool is_work(const Span& span) { return span.kind >= SpanKind::operation; }

/// A stream and its device: the host's has no handle, nor has a GPU's default one.
using StreamName = std::pair<DeviceKind, void*>;
StreamName stream_of(const Span& span) { return {span.stream.device, span.stream.handle}; }

int count_steps(const std::vector<Span>& spans) {
  return static_cast<int>(
      std::count_if(spans.begin(), spans.end(), [](const Span& span) { return span.kind == SpanKind::step; }));
}

/// The nearest span of `kind` around a span; null when there is none.
const Span* around(const std::vector<Span>& spans, const Span& span, SpanKind kind) {
  for (int at = span.parent; at >= 0; at = spans[static_cast<std::size_t>(at)].parent)
    if (spans[static_cast<std::size_t>(at)].kind == kind) return &spans[static_cast<std::size_t>(at)];
  return nullptr;
}

/// Work of a step on its own stream; work within another piece of work is that piece's.
bool counts(const std::vector<Span>& spans, const Span& span) {
  if (!is_work(span) || is_work(spans[static_cast<std::size_t>(std::max(span.parent, 0))])) return false;
  const Span* step = around(spans, span, SpanKind::step);
  return step && stream_of(span) == stream_of(*step);
}

std::string figure(double value) {
  if (!(value > 0)) return "-";
  return value < 10 ? fmt::format("{:.2f}", value) : fmt::format("{:.0f}", value);
}

std::string operator_line(const OperatorSum& sum, int steps, double step_seconds, const DeviceRates& rates) {
  const double least = floor_seconds(sum.amount, rates);
  return fmt::format(
      "{:<28} {:<22} {:>7.4g} {:>9.3f} {:>6.1f}% {:>8} {:>8} {:>9} {:>6}\n", sum.name, sum.shape,
      static_cast<double>(sum.calls) / steps, 1e3 * sum.seconds / steps, 100 * sum.seconds / steps / step_seconds,
      figure(1e-12 * sum.amount.flops / sum.seconds), figure(1e-9 * sum.amount.bytes / sum.seconds),
      least > 0 ? fmt::format("{:.3f}", 1e3 * least / steps) : "-", figure(least > 0 ? sum.seconds / least : 0));
}

/// What takes less than a thousandth of the time is one line.
std::vector<OperatorSum> sums_to_show(const std::vector<OperatorSum>& sums, double seconds) {
  std::vector<OperatorSum> shown;
  OperatorSum others{.name = "others"};
  int folded = 0;
  for (const OperatorSum& sum : sums) {
    if (sum.seconds >= 1e-3 * seconds) {
      shown.push_back(sum);
      continue;
    }
    others.shape = fmt::format("{} of them", ++folded);
    others.calls += sum.calls;
    others.seconds += sum.seconds;
    others.amount.bytes += sum.amount.bytes;
  }
  if (folded > 0) shown.push_back(others);
  return shown;
}

std::string rule() { return std::string(111, '-') + '\n'; }

std::string phase_lines(const std::vector<PhaseSum>& phases, int steps) {
  std::string lines = fmt::format("{:<28} {:>9} {:>12} {:>20}\n", "phase", "ms", "operators", "between operators");
  for (const PhaseSum& phase : phases)
    lines += fmt::format("{:<28} {:>9.3f} {:>12.3f} {:>20.3f}\n", phase.name, 1e3 * phase.seconds / steps,
                         1e3 * (phase.seconds - phase.between) / steps, 1e3 * phase.between / steps);
  return lines;
}

nlohmann::ordered_json args_of(const std::vector<Span>& spans, const Span& span) {
  nlohmann::ordered_json args = nlohmann::ordered_json::object();
  const Span* phase = around(spans, span, SpanKind::phase);
  const Span* block = around(spans, span, SpanKind::block);
  if (phase) args["phase"] = phase->text.name;
  if (block) args["block"] = block->text.name;
  if (block && !block->text.detail.empty()) args["place"] = block->text.detail;
  if (!span.text.detail.empty()) args[is_work(span) ? "shape" : "detail"] = span.text.detail;
  if (span.text.amount.flops > 0) args["flops"] = span.text.amount.flops;
  if (span.text.amount.bytes > 0) args["bytes"] = span.text.amount.bytes;
  return args;
}

nlohmann::ordered_json name_event(const char* what, int rank, int stream, const std::string& name) {
  return {{"name", what}, {"ph", "M"}, {"pid", rank}, {"tid", stream}, {"args", {{"name", name}}}};
}

nlohmann::ordered_json complete_event(const std::vector<Span>& spans, const Span& span, int rank, int stream,
                                      double zero) {
  return {{"name", span.text.name},
          {"cat", std::string(name_of(span.kind))},
          {"ph", "X"},
          {"pid", rank},
          {"tid", stream},
          {"ts", 1e6 * (span.begin - zero)},
          {"dur", 1e6 * span.seconds()},
          {"args", args_of(spans, span)}};
}

}  // namespace

std::vector<OperatorSum> sum_operators(const std::vector<Span>& spans) {
  std::map<std::tuple<SpanKind, std::string, std::string>, OperatorSum> sums;
  for (const Span& span : spans) {
    if (!counts(spans, span)) continue;
    OperatorSum& sum = sums[{span.kind, span.text.name, span.text.detail}];
    sum.name = span.text.name;
    sum.shape = span.text.detail;
    ++sum.calls;
    sum.seconds += span.seconds();
    sum.amount.flops += span.text.amount.flops;
    sum.amount.bytes += span.text.amount.bytes;
  }
  std::vector<OperatorSum> rows;
  for (auto& [key, sum] : sums) rows.push_back(std::move(sum));
  std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
  return rows;
}

std::vector<PhaseSum> sum_phases(const std::vector<Span>& spans) {
  std::vector<PhaseSum> sums;
  PhaseSum step{.name = "step"};
  const auto sum_of = [&sums](const std::string& name) -> PhaseSum& {
    const auto found = std::find_if(sums.begin(), sums.end(), [&](const PhaseSum& sum) { return sum.name == name; });
    return found == sums.end() ? sums.emplace_back(PhaseSum{.name = name}) : *found;
  };
  for (const Span& span : spans) {
    if (span.kind == SpanKind::step) step.seconds += span.seconds(), step.between += span.seconds();
    if (span.kind == SpanKind::phase) {
      PhaseSum& sum = sum_of(span.text.name);
      sum.seconds += span.seconds(), sum.between += span.seconds();
    }
    if (!counts(spans, span)) continue;
    step.between -= span.seconds();
    if (const Span* phase = around(spans, span, SpanKind::phase)) sum_of(phase->text.name).between -= span.seconds();
  }
  sums.push_back(step);
  return sums;
}

double floor_seconds(const WorkAmount& amount, const DeviceRates& rates) {
  const double flops = rates.flops > 0 ? amount.flops / rates.flops : 0;
  const double bytes = rates.bytes > 0 ? amount.bytes / rates.bytes : 0;
  return std::max(flops, bytes);
}

std::string profile_table(const std::vector<Span>& spans, const DeviceRates& rates) {
  const int steps = count_steps(spans);
  if (steps == 0) return "";
  const std::vector<PhaseSum> phases = sum_phases(spans);
  const double step_seconds = phases.back().seconds / steps;
  std::string table = fmt::format("{:<28} {:<22} {:>7} {:>9} {:>7} {:>8} {:>8} {:>9} {:>6}\n", "operator", "shape",
                                  "calls", "ms", "share", "TFLOP/s", "GB/s", "floor ms", "times");
  table += rule();
  const std::vector<OperatorSum> sums = sum_operators(spans);
  for (const OperatorSum& sum : sums_to_show(sums, step_seconds * steps))
    table += operator_line(sum, steps, step_seconds, rates);
  double least = 0;
  for (const OperatorSum& sum : sums) least += floor_seconds(sum.amount, rates);
  const double between = phases.back().between / steps;
  const auto total = [&](const char* name, double seconds, const std::string& floor) {
    table += fmt::format("{:<28} {:<22} {:>7} {:>9.3f} {:>6.1f}% {:>8} {:>8} {:>9}\n", name, "", "", 1e3 * seconds,
                         100 * seconds / step_seconds, "", "", floor);
  };
  total("between operators", between, "");
  table += rule();
  total("step", step_seconds, fmt::format("{:.3f}", 1e3 * least / steps));
  return table + '\n' + phase_lines(phases, steps);
}

std::string trace_json(const std::vector<Span>& spans, int rank, double zero) {
  std::map<StreamName, int> streams;
  std::string text = "[\n" + name_event("process_name", rank, 0, fmt::format("rank {}", rank)).dump();
  for (const Span& span : spans) {
    const auto [stream, added] = streams.try_emplace(stream_of(span), static_cast<int>(streams.size()));
    if (added) {
      const bool host = stream->second > 0 && span.stream.device == DeviceKind::cpu;
      const std::string name = stream->second == 0 ? "compute" : fmt::format("stream {}", stream->second);
      text += ",\n" + name_event("thread_name", rank, stream->second, host ? "host" : name).dump();
    }
    text += ",\n" + complete_event(spans, span, rank, stream->second, zero).dump();
  }
  return text + "\n]\n";
}

}  // namespace moesaic
