#pragma once
/// What a person sees of a run on rank 0: a line an interval, a bar on a terminal, a closing table.

#include <array>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "moesaic/train/metrics.hpp"
#include "moesaic/train/phases.hpp"

namespace moesaic {

/// The fixed facts that lines need.
struct ReportFrame {
  std::int64_t first_step = 0;  ///< finished updates when this process began
  std::int64_t steps = 0;       ///< of the whole run
  std::int64_t every = 10;      ///< steps a line
  int ranks = 1;
};

/// Sums over the steps of this process, for the closing table.
struct StepTotals {
  double seconds = 0;        ///< of the steps alone
  double tokens = 0;         ///< of all ranks
  double teraflops = 0;      ///< of one rank
  double training_loss = 0;  ///< of the last step
  std::optional<double> validation_loss;
  std::int64_t memory_peak_bytes = 0;

  /// Adds a step of a run of `ranks` ranks.
  void add(const StepMetrics& metrics, int ranks);
};

/// Local time of day `seconds_left` after `now`, "14:03:22"; "2025-11-26 14:03" on another day than `now`; "-" when
/// there is no telling (not finite, negative or beyond a hundred years).
std::string format_finish(std::time_t now, double seconds_left);

/// "step  200/1100  loss 2.1034  aux 1.02  load 1.31  grad 0.84  lr 1.9e-03  15.2k tok/s  ends 14:03:22" of the steps
/// of one interval, at least one: loss and rate are means over it, the rest are the last step's.
std::string interval_line(const ReportFrame& frame, std::span<const StepMetrics> interval, std::string_view ends);

/// "[=====>    ]  50%  step 200/400  loss 2.1034  ends 14:03:22", 79 columns at most.
std::string progress_bar(const ReportFrame& frame, const StepMetrics& now, std::string_view ends);

/// Lines of the closing table: `seconds` and share of each phase (those that took no time are left out), rates, peak
/// memory, losses. ASCII.
std::string closing_table(const std::array<double, num_phases>& seconds, const StepTotals& totals);

/// For rank 0 alone. Lines go to standard output; carriage returns only on a terminal.
class Report {
 public:
  explicit Report(const ReportFrame& frame);

  /// After each step: redraws the bar (terminal), prints an interval_line when an interval or the run ends. The end is
  /// foretold from the time since this object was made, validation and checkpoints included.
  void step(const StepMetrics& metrics);
  void validation(std::int64_t step, double loss);
  void checkpoint(std::int64_t step, const std::filesystem::path& path, double seconds);
  /// Wipes the bar, so that other lines can follow; the next step draws it again.
  void pause();

  /// The line of an interval that was not full, and the closing table: seconds and share of each phase; tokens a second
  /// and its inverse, TFLOP/s a rank; peak memory; last training and validation loss.
  void closing(const Phases& phases, const StepMetrics& last);

 private:
  void end_interval();
  void draw_bar(const StepMetrics& metrics);
  std::string ends(std::int64_t step) const;

  ReportFrame frame_;
  std::chrono::steady_clock::time_point began_;
  std::vector<StepMetrics> interval_;
  StepTotals totals_;
  bool bar_drawn_ = false;
};

}  // namespace moesaic
