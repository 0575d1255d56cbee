#pragma once
/// The numbers behind the loss curve.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace moesaic {

struct LossPoint {
  std::int64_t step = 0;
  double loss = 0;
};
using LossSeries = std::vector<LossPoint>;

struct LossHistory {
  LossSeries training, validation;
};

/// The finite losses of a metrics.jsonl, in its order; lines that are no metrics are skipped, no file is an empty
/// history.
LossHistory read_losses(const std::filesystem::path& metrics);

/// Mean over `window` points around each (made odd; narrower, and still centred, towards both ends, so that the first
/// and the last are themselves).
LossSeries running_mean(const LossSeries& series, std::int64_t window);

/// At most `most` (even, at least 2) points: the smallest and the largest of each of most / 2 equal stretches.
LossSeries thinned(const LossSeries& series, std::int64_t most);

/// Multiples of 1, 2 or 5 times a power of ten within [low, high], about `about` of them, at least `smallest` apart.
/// low < high, about > 0. [0, 97], 5 gives 0, 20, 40, 60, 80.
struct Ticks {
  double spacing = 1;
  std::vector<double> at;
};
Ticks round_ticks(double low, double high, int about, double smallest = 0);

/// "0.05" at a spacing of 0.05, "3" at 1, "1500" at 500, "20k" at 5000 (from ten thousand on), "2.5M".
std::string tick_label(double value, double spacing);

}  // namespace moesaic
