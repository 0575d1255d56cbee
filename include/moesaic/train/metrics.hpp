#pragma once
/// The numbers of a run, one JSON object a step; scripts rely on the keys.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace moesaic {

/// A checkpoint that was completed since the step before.
struct SaveMetrics {
  double stall_seconds = 0;      ///< for which training stood still
  double bytes_per_second = 0;   ///< from the first byte to the new name on disk
  double file_system_share = 0;  ///< of that time: in calls of the file system
};

struct StepMetrics {
  std::int64_t step = 0;  ///< finished updates
  double loss = 0;        ///< cross entropy alone, nats a token
  double auxiliary_loss = 0;
  std::optional<double> prediction_loss;  ///< of multi-token prediction, nats a token
  std::optional<double> validation_loss;
  double grad_norm = 0;  ///< before clipping
  double lr = 0;
  std::int64_t tokens = 0;  ///< cumulative
  double seconds = 0;       ///< of this step
  double tokens_per_second_per_rank = 0;
  double tflops_per_rank = 0;
  double expert_load = 1;              ///< largest over mean
  std::int64_t memory_peak_bytes = 0;  ///< of the rank that needs most
  std::optional<SaveMetrics> checkpoint;
};

/// One JSON object on one line, without the line's end. Keys in the order above, `prediction_loss`, `validation_loss`
/// and those of `checkpoint` (checkpoint_stall_seconds, ...) only when there is one; doubles are the shortest that read back
/// as the same bits, non-finite ones are null.
std::string json_line(const StepMetrics& metrics);

class AppendFile;

/// metrics.jsonl. For rank 0 alone.
class MetricsFile {
 public:
  /// Keeps the lines of steps <= `step` of what is there (a resumed run), byte for byte, and drops the rest: lines of
  /// later steps, and what is no metrics line, such as one that a crash cut short. The file is replaced at once or not
  /// at all. RunError when it cannot be written.
  MetricsFile(const std::filesystem::path& path, std::int64_t step);
  MetricsFile(const MetricsFile&) = delete;
  ~MetricsFile();
  /// One line, at once; on a full disk it waits in memory and goes before the next. RunError when it cannot be written.
  void write(const StepMetrics& metrics);

 private:
  std::unique_ptr<AppendFile> file_;
};

}  // namespace moesaic
