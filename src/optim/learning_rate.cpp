#include "moesaic/optim/learning_rate.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace moesaic {
namespace {

/// Share of the way from `begin` to `end` at `step`, within [0, 1].
double progress(double step, double begin, double end) {
  return end <= begin ? (step > begin ? 1.0 : 0.0) : std::clamp((step - begin) / (end - begin), 0.0, 1.0);
}

}  // namespace

double learning_rate(const OptimizerSettings& settings, std::int64_t step, std::int64_t steps) {
  const auto now = static_cast<double>(step), last = static_cast<double>(steps);
  const auto warmup = static_cast<double>(settings.warmup);
  if (step < settings.warmup) return settings.lr * now / warmup;
  const double range = settings.lr - settings.min_lr;
  switch (settings.schedule) {
    case LrSchedule::constant: return settings.lr;
    case LrSchedule::cosine:
      return settings.min_lr + range * 0.5 * (1 + std::cos(std::numbers::pi * progress(now, warmup, last)));
    case LrSchedule::wsd: return settings.lr - range * progress(now, last * (1 - settings.decay_share), last);
  }
  return settings.lr;
}

}  // namespace moesaic
