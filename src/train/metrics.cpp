#include "moesaic/train/metrics.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <cmath>
#include <fstream>

#include "append_file.hpp"
#include "replace_file.hpp"

namespace moesaic {
namespace fs = std::filesystem;
namespace {

std::string json_number(double value) { return std::isfinite(value) ? fmt::format("{}", value) : "null"; }

/// Whether `line` is the whole line of a step that a run resumed at `last` keeps.
bool is_kept(const std::string& line, std::int64_t last) {
  const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return false;
  const auto step = object.find("step");
  return step != object.end() && step->is_number_integer() && step->get<std::int64_t>() <= last;
}

void copy_kept_lines(const fs::path& from, std::int64_t last, std::ostream& to) {
  std::ifstream file(from, std::ios::binary);
  for (std::string line; std::getline(file, line);)
    if (is_kept(line, last)) to << line << '\n';
}

}  // namespace

std::string json_line(const StepMetrics& metrics) {
  std::string line = fmt::format(R"({{"step": {}, "loss": {}, "auxiliary_loss": {}, )", metrics.step,
                                 json_number(metrics.loss), json_number(metrics.auxiliary_loss));
  if (metrics.prediction_loss) line += fmt::format(R"("prediction_loss": {}, )", json_number(*metrics.prediction_loss));
  if (metrics.validation_loss) line += fmt::format(R"("validation_loss": {}, )", json_number(*metrics.validation_loss));
  line += fmt::format(R"("grad_norm": {}, "lr": {}, "tokens": {}, "seconds": {}, )", json_number(metrics.grad_norm),
                      json_number(metrics.lr), metrics.tokens, json_number(metrics.seconds));
  line += fmt::format(R"("tokens_per_second_per_rank": {}, "tflops_per_rank": {}, )",
                      json_number(metrics.tokens_per_second_per_rank), json_number(metrics.tflops_per_rank));
  line += fmt::format(R"("expert_load": {}, "memory_peak_bytes": {})", json_number(metrics.expert_load),
                      metrics.memory_peak_bytes);
  if (const auto& save = metrics.checkpoint)
    line += fmt::format(
        R"(, "checkpoint_stall_seconds": {}, "checkpoint_bytes_per_second": {}, "checkpoint_file_system_share": {})",
        json_number(save->stall_seconds), json_number(save->bytes_per_second), json_number(save->file_system_share));
  return line + '}';
}

MetricsFile::MetricsFile(const fs::path& path, std::int64_t step) : file_(std::make_unique<AppendFile>(path)) {
  replace_file(path, [&](std::ostream& kept) { copy_kept_lines(path, step, kept); });
}

MetricsFile::~MetricsFile() = default;

void MetricsFile::write(const StepMetrics& metrics) { file_->write(json_line(metrics) + '\n'); }

}  // namespace moesaic
