#pragma once
/// Small helpers for messages: "did you mean", and figures that people read.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace moesaic {

/// The candidate with the smallest edit distance to `word` (insertions, deletions, substitutions and swaps of
/// neighbours count 1 each); the first of several; empty without candidates.
std::string nearest_name(std::string_view word, std::span<const std::string> candidates);

/// Three figures and a binary unit: "512 B", "1.50 KiB", "80.0 GiB".
std::string format_bytes(std::int64_t bytes);

/// "350ms", "12.3s", "2m 03s", "1h 02m 03s", "3d 04h 05m"; `seconds` not negative, a dash when not finite.
std::string format_duration(double seconds);

/// Three figures and a decimal unit: "999", "12.3k", "3.40M", "30.5B", "1.20T".
std::string format_count(double count);

}  // namespace moesaic
