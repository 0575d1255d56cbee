#include "moesaic/train/events.hpp"

#include <nlohmann/json.hpp>
#include <ctime>
#include <fstream>

#include "append_file.hpp"
#include "replace_file.hpp"

namespace moesaic {
namespace fs = std::filesystem;
namespace {

/// "2025-11-24T09:26:03Z"
std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  return std::string(text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts));
}

bool ends_within_a_line(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  file.seekg(-1, std::ios::end);
  return file && file.get() != '\n';
}

}  // namespace

RunRecord::RunRecord(const fs::path& run_directory)
    : directory_(run_directory), events_(std::make_unique<AppendFile>(directory_ / "events.jsonl")) {
  if (ends_within_a_line(directory_ / "events.jsonl")) events_->write("\n");
}

RunRecord::~RunRecord() = default;

void RunRecord::event(std::string_view event, std::int64_t step, const std::map<std::string, std::string>& facts) {
  nlohmann::ordered_json line{{"time", utc_now()}, {"event", event}, {"step", step}};
  for (const auto& [name, fact] : facts) {
    MOESAIC_EXPECT(!line.contains(name));
    line[name] = fact;
  }
  // A path may hold any bytes; those that are no UTF-8 must not end the run.
  const auto replace = nlohmann::ordered_json::error_handler_t::replace;
  events_->write(line.dump(-1, ' ', false, replace) + '\n');
}

std::string RunRecord::status() const {
  std::string line;
  std::ifstream file(directory_ / "status", std::ios::binary);
  std::getline(file, line);
  return line;
}

void RunRecord::status(std::string_view state, std::int64_t step) {
  replace_file(directory_ / "status", [&](std::ostream& file) { file << state << ' ' << step << '\n'; });
}

}  // namespace moesaic
