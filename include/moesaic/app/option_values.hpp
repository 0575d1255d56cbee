#pragma once
/// Reading option values from text.

#include <cstdint>
#include <string>
#include <string_view>

#include "moesaic/train/settings.hpp"

namespace moesaic {

/// An integer as people write it: 1100, -1, 1e12, 4Ki, 16Mi, 300B (10^9), 2k, 5M, 1T. InputError names `key`.
std::int64_t parse_integer(std::string_view key, const std::string& text);
/// A finite floating-point number, e.g. 2e-3.
double parse_number(std::string_view key, const std::string& text);
/// true, false, yes, no, on, off, 1, 0.
bool parse_flag(std::string_view key, const std::string& text);
/// hh:mm:ss, mm:ss or seconds; in seconds.
double parse_duration(std::string_view key, const std::string& text);
/// none; first:last, both steps included; or how many, the process's first two left out. At most 50.
ProfileSteps parse_profile_steps(std::string_view key, const std::string& text);

}  // namespace moesaic
