#include "moesaic/layers/rope.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

/// The (fractional) pair that turns `rotations` times within the original context.
double pair_of(double rotations, const RopeSpec& spec, std::int64_t width) {
  const auto length = static_cast<double>(spec.yarn->original_positions);
  return static_cast<double>(width) * std::log(length / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(spec.theta));
}

/// Which pairs are between untouched and divided by the factor.
struct Ramp {
  double begin, end;

  /// 0: untouched, 1: divided.
  double at(std::int64_t pair) const {
    return std::clamp((static_cast<double>(pair) - begin) / (end - begin), 0.0, 1.0);
  }
};

Ramp ramp_of(const RopeSpec& spec, std::int64_t width) {
  double begin = pair_of(spec.yarn->beta_fast, spec, width), end = pair_of(spec.yarn->beta_slow, spec, width);
  if (spec.yarn->truncate) {
    begin = std::floor(begin);
    end = std::ceil(end);
  }
  begin = std::max(begin, 0.0);
  end = std::min(end, static_cast<double>(width - 1));
  constexpr double narrowest = 0.001;  // what Hugging Face makes of a ramp of no width
  return {begin, begin == end ? end + narrowest : end};
}

}  // namespace

std::vector<double> rotary_frequencies(const RopeSpec& spec, std::int64_t width) {
  MOESAIC_EXPECT(width % 2 == 0);
  std::vector<double> frequencies;
  for (std::int64_t i = 0; i < width / 2; ++i)
    frequencies.push_back(std::pow(spec.theta, -2.0 * static_cast<double>(i) / static_cast<double>(width)));
  if (!spec.yarn) return frequencies;
  const Ramp ramp = ramp_of(spec, width);
  for (std::int64_t i = 0; i < width / 2; ++i) {
    double& frequency = frequencies[static_cast<std::size_t>(i)];
    frequency = (1 - ramp.at(i)) * frequency + ramp.at(i) * frequency / spec.yarn->factor;
  }
  return frequencies;
}

double rotary_factor(const RopeSpec& spec) {
  if (!spec.yarn) return 1;
  const YarnSpec& yarn = *spec.yarn;
  if (yarn.attention_factor) return *yarn.attention_factor;
  if (yarn.mscale != 0 && yarn.mscale_all_dim != 0)
    return yarn_mscale(yarn.factor, yarn.mscale) / yarn_mscale(yarn.factor, yarn.mscale_all_dim);
  return yarn_mscale(yarn.factor, 1);
}

double yarn_mscale(double factor, double mscale) { return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1; }

}  // namespace moesaic
