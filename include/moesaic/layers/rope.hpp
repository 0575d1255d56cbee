#pragma once
/// The frequencies of rotary positions as data: the plain ones, and those of YaRN for longer contexts.

#include <cstdint>
#include <optional>
#include <vector>

namespace moesaic {

/// YaRN (Peng et al. 2023, arXiv 2309.00071): pairs that turn more than `beta_fast` times within the original context keep
/// their frequency, those that turn less than `beta_slow` times have it divided by `factor`, between them a linear ramp.
struct YarnSpec {
  double factor = 1;  ///< new length over original length
  std::int64_t original_positions = 0;
  double beta_fast = 32;
  double beta_slow = 1;
  double mscale = 0;          ///< 0: not given
  double mscale_all_dim = 0;  ///< 0: not given
  std::optional<double> attention_factor = std::nullopt;
  bool truncate = true;  ///< the ramp begins and ends at whole pairs
};

struct RopeSpec {
  double theta = 10000;
  std::optional<YarnSpec> yarn = std::nullopt;
};

/// Frequency of each pair of a head of `width`, radians a position, [width / 2]: theta^(-2i / width), scaled by YaRN.
std::vector<double> rotary_frequencies(const RopeSpec& spec, std::int64_t width);

/// What cosine and sine are multiplied with: 1 without YaRN; else attention_factor if given, else with both mscales
/// yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all_dim), else yarn_mscale(factor, 1).
double rotary_factor(const RopeSpec& spec);

/// 0.1 mscale ln(factor) + 1, or 1 for factors up to 1. DeepSeek-V3 multiplies the softmax scale with the square of the one
/// of mscale_all_dim.
double yarn_mscale(double factor, double mscale);

}  // namespace moesaic
