#include "moesaic/train/step_profile.hpp"

#include <fmt/format.h>

#include <chrono>
#include <fstream>
#include <utility>

#include "moesaic/base/contract.hpp"
#include "moesaic/base/log.hpp"
#include "moesaic/train/profile_table.hpp"

namespace moesaic {
namespace fs = std::filesystem;
namespace {

/// Of a step; the timeline makes more when there are more.
constexpr std::size_t spans_made_beforehand = 4096;

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

StepProfile::StepProfile(const ProfileSteps& steps, std::int64_t first_step, Stream compute, fs::path folder,
                         Communicator& world, std::function<DeviceRates()> measure)
    : first_(steps.first + (steps.from_start ? first_step - 1 : 0)), last_(first_ + steps.count - 1), compute_(compute),
      folder_(std::move(folder)), rank_(world.rank()), measure_(std::move(measure)), zero_(seconds_since_1970()),
      timeline_(compute, spans_made_beforehand) {
  world.broadcast(host_view(&zero_, {1}), 0);
}

void StepProfile::begin_step(std::int64_t step, Phase phase) {
  if (step < first_ || step > last_) return;
  if (recorded_ == 0) timeline_.start();
  step_ = step;
  timeline_.begin(SpanKind::step, compute_, {.name = fmt::format("step {}", step)});
  timeline_.begin(SpanKind::phase, compute_, {.name = name_of(phase)});
}

void StepProfile::enter(Phase phase) {
  if (!step_) return;
  timeline_.end();
  timeline_.begin(SpanKind::phase, compute_, {.name = name_of(phase)});
}

void StepProfile::end_step() {
  if (!step_) return;
  timeline_.end();
  timeline_.end();
  ++recorded_;
  if (std::exchange(step_, std::nullopt) == last_) write();
}

void StepProfile::finish() {
  if (recorded_ > 0 && Timeline::recording() == &timeline_) write();
}

/// None where there is no memory left to measure in: not worth a run.
DeviceRates StepProfile::measured() const {
  try {
    return measure_();
  } catch (const RunError& error) {
    log_warn("no floors: {}", error.what());
    return {};
  }
}

void StepProfile::write() {
  const std::vector<Span> spans = timeline_.stop();
  const fs::path path = folder_ / fmt::format("rank-{}.json", rank_);
  std::error_code ignored;
  fs::create_directories(folder_, ignored);
  std::ofstream file(path);
  file << trace_json(spans, rank_, zero_);
  if (!file.flush()) log_warn("{} cannot be written; the timeline of this rank is lost", path.string());
  if (rank_ != 0) return;
  const DeviceRates rates = measured();
  log_line("\nprofile of steps {} to {}, means a step of rank 0; timelines in {}", first_, first_ + recorded_ - 1,
           folder_.string());
  log_line("floors: {:.0f} GB/s copied, {:.3g} TFLOP/s in products, as measured now\n\n{}", 1e-9 * rates.bytes,
           1e-12 * rates.flops, profile_table(spans, rates));
}

}  // namespace moesaic
