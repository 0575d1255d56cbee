#pragma once
/// Learning-rate schedules: pure functions of the update's number.

#include "moesaic/optim/settings.hpp"

namespace moesaic {

/// Rate of update `step` (from 1) of `steps`. Warm-up: lr * min(1, step / warmup); warmup 0 is the full rate at once. Then
///   constant: lr;
///   cosine:   min_lr + (lr - min_lr) * (1 + cos(pi * x)) / 2, x = (step - warmup) / (steps - warmup);
///   wsd:      lr, and over the last decay_share * steps updates linearly down to min_lr at `steps`
///             (warm-up, stable, decay; Hu et al. 2024, arXiv 2404.06395).
double learning_rate(const OptimizerSettings& settings, std::int64_t step, std::int64_t steps);

}  // namespace moesaic
