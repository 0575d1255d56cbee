#pragma once
/// From a deck and a command line to settings.

#include <filesystem>
#include <string>
#include <vector>

#include "moesaic/train/settings.hpp"

namespace moesaic {

/// Reads `deck` (INI sections), lets `overrides` ("key=value" or "--key=value") win, and checks every value and the
/// combinations. settings.deck becomes the resolved deck. InputError for unknown (the nearest key is named) and repeated
/// keys, bad or missing values.
RunSettings read_deck(const std::filesystem::path& deck, const std::vector<std::string>& overrides);

/// Help for the sections of the deck; `section` empty: all. InputError when there is no such section.
std::string options_help(const std::string& section);

}  // namespace moesaic
