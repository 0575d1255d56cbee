#include "moesaic/app/option_values.hpp"

#include <charconv>
#include <cmath>
#include <limits>
#include <map>

#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

constexpr double largest_exact = 9007199254740992.0;  // 2^53

double suffix_factor(const std::string& suffix) {
  static const std::map<std::string, double> factors{{"", 1},
                                                     {"k", 1e3},
                                                     {"K", 1e3},
                                                     {"M", 1e6},
                                                     {"B", 1e9},
                                                     {"G", 1e9},
                                                     {"T", 1e12},
                                                     {"Ki", 1024.0},
                                                     {"Mi", 1048576.0},
                                                     {"Gi", 1073741824.0},
                                                     {"Ti", 1099511627776.0}};
  const auto found = factors.find(suffix);
  return found == factors.end() ? std::numeric_limits<double>::quiet_NaN() : found->second;
}

/// The number at the beginning of `text`; `rest` gets what follows it. NaN when there is none.
double leading_number(const std::string& text, std::string& rest) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return std::numeric_limits<double>::quiet_NaN();
  rest.assign(end, text.data() + text.size());
  return value;
}

}  // namespace

std::int64_t parse_integer(std::string_view key, const std::string& text) {
  std::int64_t exact = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), exact);
  if (error == std::errc() && end == text.data() + text.size()) return exact;
  std::string suffix;
  const double number = leading_number(text, suffix);
  const double value = number * suffix_factor(suffix);
  MOESAIC_VALIDATE(std::isfinite(value) && value == std::floor(value) && std::abs(value) <= largest_exact,
                   "{} = {} is not an integer; write one such as 1100, 1e6, 4Ki or 300B", key, text);
  return static_cast<std::int64_t>(value);
}

double parse_number(std::string_view key, const std::string& text) {
  std::string rest;
  const double value = leading_number(text, rest);
  MOESAIC_VALIDATE(std::isfinite(value) && rest.empty(), "{} = {} is not a number; write one such as 0.1 or 2e-3", key,
                   text);
  return value;
}

bool parse_flag(std::string_view key, const std::string& text) {
  static const std::map<std::string, bool> words{{"true", true},   {"yes", true}, {"on", true},   {"1", true},
                                                 {"false", false}, {"no", false}, {"off", false}, {"0", false}};
  const auto found = words.find(text);
  MOESAIC_VALIDATE(found != words.end(), "{} = {} is not a flag; write true or false", key, text);
  return found->second;
}

double parse_duration(std::string_view key, const std::string& text) {
  double seconds = 0;
  std::string rest = text;
  for (int fields = 1; fields <= 3; ++fields) {
    std::string after;
    const double field = leading_number(rest, after);
    MOESAIC_VALIDATE(field >= 0 && std::isfinite(field), "{} = {} is not a duration; write hh:mm:ss", key, text);
    seconds = seconds * 60 + field;
    if (after.empty()) return seconds;
    MOESAIC_VALIDATE(after[0] == ':' && fields < 3, "{} = {} is not a duration; write hh:mm:ss", key, text);
    rest = after.substr(1);
  }
  return seconds;
}

ProfileSteps parse_profile_steps(std::string_view key, const std::string& text) {
  constexpr std::int64_t most = 50;
  if (text == "none") return {};
  ProfileSteps steps{.first = 3, .count = 0, .from_start = true};
  const auto colon = text.find(':');
  if (colon == std::string::npos) {
    steps.count = parse_integer(key, text);
  } else {
    steps.first = parse_integer(key, text.substr(0, colon));
    steps.count = parse_integer(key, text.substr(colon + 1)) - steps.first + 1;
    steps.from_start = false;
  }
  MOESAIC_VALIDATE(steps.first >= 1 && steps.count >= 1,
                   "{} = {} names no steps; write the first and the last such as 4:6, how many, or none", key, text);
  MOESAIC_VALIDATE(steps.count <= most, "{} = {} are {} steps (every operator of each is kept); name {} at most", key,
                   text, steps.count, most);
  return steps;
}

}  // namespace moesaic
